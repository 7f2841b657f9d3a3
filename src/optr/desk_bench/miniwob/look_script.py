"""What a page of MiniWoB++ is asked for: what is drawn on it. It reads no variable of the page."""

LOOK = r"""
(() => {
  const skip = new Set(['reward-display', 'click-canvas', 'sync-task-cover', 'attention-canvas']);
  const drawn = ['x', 'y', 'width', 'height', 'r', 'cx', 'cy', 'rx', 'ry', 'x1', 'y1', 'x2', 'y2', 'points', 'd',
                 'fill', 'stroke', 'transform', 'font-size', 'src', 'placeholder', 'rows', 'style'];
  const round = v => Math.round(v * 100) / 100;
  const list = r => [round(r.left), round(r.top), round(r.width), round(r.height)];
  const cut = (a, b) => {
    const left = Math.max(a.left, b.left), top = Math.max(a.top, b.top);
    return {left, top, right: Math.min(a.right, b.right), bottom: Math.min(a.bottom, b.bottom)};
  };
  const whole = r => ({left: r.left, top: r.top, right: r.right, bottom: r.bottom});
  const sized = r => ({...r, width: r.right - r.left, height: r.bottom - r.top});
  const items = [];
  const words = node => {
    const range = document.createRange(), found = [];
    for (const m of node.data.matchAll(/\S+/g)) {
      range.setStart(node, m.index);
      range.setEnd(node, m.index + m[0].length);
      const r = range.getClientRects()[0];
      if (r && r.width) found.push([m[0], ...list(r)]);
    }
    return found;
  };
  const visit = (node, parent, clip, asks) => {
    if (skip.has(node.id) || ['SCRIPT', 'STYLE', 'HEAD'].includes(node.tagName)) return;
    const style = getComputedStyle(node);
    if (style.display === 'none') return;
    asks = asks || node.id === 'query';
    const rect = node.getBoundingClientRect();
    const seen = sized(cut(whole(rect), clip));
    const own = [...node.childNodes].filter(n => n.nodeType === 3);
    const text = own.map(n => n.data).join(' ').replace(/\s+/g, ' ').trim();
    const number = items.length;
    const visible = style.visibility === 'visible' && rect.width * rect.height > 0 && +style.opacity > 0;
    const lines = [...node.getClientRects()];
    const first = lines.length > 1 ? sized(cut(whole(lines[0]), clip)) : seen;
    let free = false;
    if (visible && seen.width > 0 && seen.height > 0) {
      const hit = document.elementFromPoint(first.left + first.width / 2, first.top + first.height / 2);
      free = !!hit && (hit === node || node.contains(hit) || hit.contains(node) || (node.tagName === 'circle'));
    }
    const attributes = {};
    for (const name of drawn) if (node.hasAttribute(name)) attributes[name] = node.getAttribute(name);
    items.push({
      tag: node.tagName.toLowerCase(), id: node.id, parent, classes: (node.getAttribute('class') || ''), text,
      kind: node.tagName === 'INPUT' ? node.type : '',
      value: 'value' in node && typeof node.value === 'string' ? node.value : '',
      checked: !!node.checked || !!node.selected, disabled: !!node.disabled || !!node.readOnly,
      focused: node === document.activeElement,
      box: list(rect), shown: visible && seen.width > 0 && seen.height > 0 ? list(first) : null, free,
      asks, ink: style.color, paper: style.backgroundColor, weight: style.fontWeight, attributes,
      cursor: style.cursor,
      scroll: ['auto', 'scroll'].includes(style.overflowY) ? [node.scrollTop, node.scrollHeight, node.clientHeight]
        : [0, 0, 0],
      words: own.flatMap(words),
    });
    const clips = style.overflow !== 'visible' && node !== document.body && node !== document.documentElement;
    const inner = clips ? cut(whole(rect), clip) : clip;
    for (const child of node.children) visit(child, number, inner, asks);
  };
  const view = {left: 0, top: 0, right: innerWidth, bottom: innerHeight};
  visit(document.body, -1, view, false);
  const query = document.getElementById('query');
  return {
    utterance: query ? query.textContent.replace(/\s+/g, ' ').trim() : '',
    size: [innerWidth, innerHeight], items,
  };
})()
"""
"""Answers the utterance, the size of the page, and every element in its order, with places in pixels of the page."""
