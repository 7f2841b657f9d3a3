// What every page has: `data` of its task, and the way to its server.
const here = location.pathname.replace(/\/$/, "");
const tell = (what, value) => fetch(`${here}/${what}`, {method: "POST", body: JSON.stringify(value ?? null), keepalive: true});
const record = value => tell("record", value);
const $ = id => document.getElementById(id);
const add = (parent, tag, text = "", more = {}) => {
  const made = Object.assign(document.createElement(tag), {textContent: text}, more);
  parent.append(made);
  return made;
};
const values = form => Object.fromEntries(new FormData(form));
addEventListener("load", () => tell("ready"));
