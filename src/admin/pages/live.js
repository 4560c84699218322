// Live pages: the server sends the blocks of this page that changed, as HTML it made itself; they are laid over what is there, so that focus, selection and what is unfolded stay.
"use strict";
(() => {
  const root = document.documentElement;
  const sign = document.getElementById("live");
  let source = null, wait = 1000, timer = 0;
  root.classList.add("js");

  // Makes `old` look like `now`, changing as little as possible. Children with data-key are told apart by it.
  const lay = (old, now) => {
    if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) return old.replaceWith(now);
    if (old.nodeType !== 1) { if (old.data !== now.data) old.data = now.data; return; }
    if (old.isEqualNode(now)) return;
    const unfolded = old.nodeName === "DETAILS";
    for (const { name } of [...old.attributes]) if (!now.hasAttribute(name) && !(unfolded && name === "open")) old.removeAttribute(name);
    for (const { name, value } of [...now.attributes]) if (old.getAttribute(name) !== value && !(unfolded && name === "open")) old.setAttribute(name, value);
    const keyed = new Map();
    for (const child of old.children) if (child.dataset && child.dataset.key) keyed.set(child.dataset.key, child);
    let at = old.firstChild;
    for (const next of [...now.childNodes]) {
      const key = next.dataset && next.dataset.key;
      const same = key && keyed.get(key);
      if (same) {
        if (same === at) at = at.nextSibling; else old.insertBefore(same, at);
        lay(same, next);
      } else if (key || !at || (at.dataset && at.dataset.key)) {
        old.insertBefore(next, at);
      } else {
        const place = at;
        at = at.nextSibling;
        lay(place, next);
      }
    }
    while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
  };

  // The reader's own clock, beside ours.
  const times = within => {
    for (const time of within.querySelectorAll("time")) time.title = new Date(time.dateTime).toLocaleString();
  };

  const show = state => { sign.dataset.state = state; sign.textContent = state; };

  const open = () => {
    clearTimeout(timer);
    if (source || document.hidden || !document.querySelector("[data-live]")) return;
    source = new EventSource(location.pathname + location.search);
    source.onopen = () => { wait = 1000; show("live"); };
    source.onmessage = message => {
      const { id, html } = JSON.parse(message.data);
      const block = document.getElementById(id);
      if (!block) return;
      const template = document.createElement("template");
      template.innerHTML = html;
      const now = block.cloneNode(false);
      now.append(template.content);
      lay(block, now);
      times(block);
    };
    source.onerror = () => {
      close();
      show("waiting");
      timer = setTimeout(open, wait);
      wait = Math.min(2 * wait, 30000);
    };
  };
  const close = () => { if (source) source.close(); source = null; };

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return open();
    clearTimeout(timer);
    close();
    show("paused");
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);

  document.addEventListener("click", event => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const done = word => { button.textContent = word; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
    navigator.clipboard.writeText(button.dataset.copy).then(() => done("Copied"), () => done("Cannot"));
  });

  times(document);
  open();
})();
