"""What is asked of a page in Chromium: one function in a world of its own, which the page can neither see nor bend."""

FIND = r"""
(selectors, reveal) => {
  const clean = text => (text || '').replace(/\s+/g, ' ').trim().slice(0, 120);
  const roles = {
    a: 'link', button: 'button', select: 'combobox', textarea: 'textbox', img: 'img', iframe: 'iframe',
    nav: 'navigation',
    main: 'main', form: 'form', ul: 'list', ol: 'list', li: 'listitem', table: 'table', tr: 'row', td: 'cell',
    th: 'columnheader', p: 'paragraph', dialog: 'dialog', option: 'option', progress: 'progressbar', meter: 'meter',
    h1: 'heading', h2: 'heading', h3: 'heading', h4: 'heading', h5: 'heading', h6: 'heading', label: 'label',
  };
  const inputs = {
    button: 'button', submit: 'button', reset: 'button', image: 'button', checkbox: 'checkbox', radio: 'radio',
    range: 'slider', number: 'spinbutton', search: 'searchbox',
  };
  const roleOf = node => {
    const tag = node.localName;
    return node.getAttribute('role') || (tag === 'input' ? inputs[node.type] || 'textbox' : roles[tag] || 'generic');
  };
  const nameOf = node => {
    const by = (node.getAttribute('aria-labelledby') || '').split(/\s+/).filter(Boolean);
    const told = by.map(id => node.getRootNode().getElementById(id)).filter(Boolean).map(n => n.innerText).join(' ');
    const label = node.labels && node.labels.length ? node.labels[0].innerText : '';
    const pressed = node.localName === 'input' && inputs[node.type] === 'button' ? node.value : '';
    const written = ['input', 'textarea', 'select'].includes(node.localName) ? '' : node.innerText;
    return clean(told || node.getAttribute('aria-label') || label || pressed || node.getAttribute('alt') || written
      || node.getAttribute('title') || node.getAttribute('placeholder') || node.getAttribute('name') || node.id);
  };
  const statesOf = node => {
    const states = [];
    if (!node.matches(':disabled')) states.push('enabled');
    if (node === node.getRootNode().activeElement) states.push('focused');
    if (node.checked) states.push('checked');
    if (node.selected) states.push('selected');
    if (node.required) states.push('required');
    if (node.readOnly) states.push('readonly');
    if (node.isContentEditable || node.matches('input:read-write, textarea:read-write')) states.push('editable');
    if (drawn(node)) states.push('visible');
    if (node.localName === 'input' && node.type === 'password') states.push('password');
    return states.sort();
  };
  const drawn = node => node.getClientRects().length > 0
    && node.ownerDocument.defaultView.getComputedStyle(node).visibility === 'visible';
  const cut = (a, b) => {
    const x = Math.max(a.x, b.x), y = Math.max(a.y, b.y);
    const right = Math.min(a.x + a.width, b.x + b.width), bottom = Math.min(a.y + a.height, b.y + b.height);
    return {x, y, width: right - x, height: bottom - y};
  };
  const area = box => box.width > 0 && box.height > 0 ? box.width * box.height : 0;
  // Of a link that goes over two lines, the middle of the box around both is beside both.
  const boxOf = node => [...node.getClientRects()].reduce((a, b) => area(b) > area(a) ? b : a);
  const viewOf = view => ({x: 0, y: 0, width: view.innerWidth, height: view.innerHeight});
  const seenBox = node => {
    let box = cut(boxOf(node), viewOf(node.ownerDocument.defaultView));
    for (let above = node.parentElement; above; above = above.parentElement)
      if (above.ownerDocument.defaultView.getComputedStyle(above).overflow !== 'visible'
          && above !== above.ownerDocument.documentElement && above !== above.ownerDocument.body)
        box = cut(box, above.getBoundingClientRect());
    return box;
  };
  // From a frame to the page around it, up to the uppermost one.
  const outwards = (box, view) => {
    let frame = view.frameElement;
    if (!frame) return box;
    const around = frame.getBoundingClientRect();
    const across = around.width / (frame.offsetWidth || 1), down = around.height / (frame.offsetHeight || 1);
    const style = frame.ownerDocument.defaultView.getComputedStyle(frame);
    const left = frame.clientLeft + parseFloat(style.paddingLeft), top = frame.clientTop + parseFloat(style.paddingTop);
    const moved = {x: around.x + (left + box.x) * across, y: around.y + (top + box.y) * down,
                   width: box.width * across, height: box.height * down};
    return outwards(cut(moved, seenBox(frame)), frame.ownerDocument.defaultView);
  };
  const tell = node => {
    const box = drawn(node) ? outwards(boxOf(node), node.ownerDocument.defaultView) : null;
    const secret = node.localName === 'input' && node.type === 'password';
    const holds = !secret && node.localName !== 'button' && typeof node.value === 'string';
    const value = holds ? node.value.slice(0, 10000) : '';
    return {role: roleOf(node), name: nameOf(node), value, states: statesOf(node),
            box: box && [box.x, box.y, box.width, box.height]};
  };
  const roots = scope => [scope, ...[...scope.querySelectorAll('*')].filter(n => n.shadowRoot)
    .flatMap(n => roots(n.shadowRoot))];
  const all = (scope, selector) => {
    const plain = [...scope.querySelectorAll(selector)];
    return plain.length ? plain : roots(scope).slice(1).flatMap(root => [...root.querySelectorAll(selector)]);
  };
  const nameFrame = frame => frame.id || frame.name || frame.title || frame.src || 'without a name';
  const framesOf = (scope, selector) => [...scope.querySelectorAll('iframe, frame')].map(frame => {
    let inside = null;
    try { inside = frame.contentDocument ? all(frame.contentDocument, selector).length : null; } catch (err) {}
    return {name: nameFrame(frame), found: inside};
  });
  const exact = axis => {  // innerWidth is rounded; a media query is not
    let low = 0, high = 2 * (axis === 'width' ? innerWidth : innerHeight) + 2;
    for (let step = 0; step < 40; step++) {
      const middle = (low + high) / 2;
      if (matchMedia(`(min-${axis}: ${middle}px)`).matches) low = middle; else high = middle;
    }
    return low;
  };
  const key = [innerWidth, innerHeight, devicePixelRatio, outerWidth, outerHeight].join();
  if (globalThis.viewKey !== key) {
    globalThis.viewKey = key;
    globalThis.view = [exact('width'), exact('height')];
  }
  const page = {
    title: document.title, url: location.href, hidden: document.visibilityState !== 'visible',
    place: [screenX, screenY, outerWidth, outerHeight], view: globalThis.view,
    ratio: devicePixelRatio,
    pinch: [visualViewport.offsetLeft, visualViewport.offsetTop, visualViewport.scale],
  };
  if (page.hidden) return {page, items: []};
  let scope = document;
  try {
    for (const [place, selector] of selectors.entries()) {
      const found = all(scope, selector), shown = found.filter(drawn);
      const last = place === selectors.length - 1;
      if (shown.length !== 1) return {page, items: shown.slice(0, 20).map(tell), count: shown.length,
        unseen: found.length - shown.length, at: selector, frames: shown.length ? [] : framesOf(scope, selector)};
      if (last) scope = shown[0];
      else if (['iframe', 'frame'].includes(shown[0].localName)) {
        if (!shown[0].contentDocument) return {page, items: [], count: 0, unseen: 0, at: selector,
          barred: nameFrame(shown[0])};
        scope = shown[0].contentDocument;
      } else scope = shown[0];
    }
  } catch (err) { return {page, items: [], bad: err.message}; }
  const node = scope, view = node.ownerDocument.defaultView;
  const inSight = () => outwards(seenBox(node), view);
  const whole = () => { const box = boxOf(node), seen = inSight(); return area(seen) >= 0.99 * area(box); };
  if (reveal && !whole()) node.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});
  const seen = seenBox(node);
  const told = tell(node);
  if (!area(outwards(seen, view))) return {page, items: [told], count: 1, out: true};
  const root = node.getRootNode();
  const struck = (x, y) => root.elementFromPoint(seen.x + x * seen.width, seen.y + y * seen.height);
  const own = hit => hit && (hit === node || node.contains(hit) || (hit.closest('label') || {}).control === node);
  const spots = [[0.5, 0.5], [0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75], [0.1, 0.5], [0.9, 0.5]];
  const free = spots.find(([x, y]) => own(struck(x, y)));
  if (!free) {
    const above = struck(0.5, 0.5);
    const covered = above ? `${roleOf(above)} ${JSON.stringify(nameOf(above))}` : 'nothing';
    return {page, items: [told], count: 1, covered};
  }
  const spot = {x: seen.x + free[0] * seen.width - 1, y: seen.y + free[1] * seen.height - 1, width: 2, height: 2};
  const part = free === spots[0] ? seen : spot;
  const box = outwards(part, view);
  return {page, items: [{...told, box: [box.x, box.y, box.width, box.height]}], count: 1};
}
"""
"""Takes CSS selectors, each inside what the one before found, and whether to scroll; answers JSON.

Boxes are in CSS pixels of the uppermost page. `count` tells how many are drawn, `unseen` how many are not.
"""
