"use strict";
// Points from one place of a page to all others that are about the same thing. It reads and moves
// what is there, and makes no HTML of text.
(() => {
  const marks = new Map();
  for (const mark of document.querySelectorAll("[data-of]")) {
    const name = mark.dataset.of;
    if (!marks.has(name)) marks.set(name, []);
    marks.get(name).push(mark);
  }
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  let current = null;

  const light = (name, on) => {
    for (const mark of marks.get(name) ?? []) mark.classList.toggle("on", on);
  };
  const fill = (row) => {
    const title = document.createElement("strong");
    title.textContent = row.dataset.title ?? "";
    const parts = [...row.querySelectorAll(".facts, .words")].slice(0, 3);
    tip.replaceChildren(title, ...parts.map((part) => part.cloneNode(true)));
  };
  const show = (name, x, y) => {
    const row = document.getElementById(name);
    if (!row) return hide();
    if (current !== name) {
      hide();
      current = name;
      light(name, true);
      fill(row);
      tip.hidden = false;
    }
    const { width, height } = tip.getBoundingClientRect();
    const left = x + 16 + width < innerWidth ? x + 16 : Math.max(4, x - 16 - width);
    const top = y + 16 + height < innerHeight ? y + 16 : Math.max(4, y - 16 - height);
    tip.style.left = `${left}px`;
    tip.style.top = `${top}px`;
  };
  const hide = () => {
    if (current !== null) light(current, false);
    current = null;
    tip.hidden = true;
  };
  const markAt = (element) => element instanceof Element && element.closest("svg .mark");
  const markOf = (event) => markAt(event.target);
  let pointer = null; // where it is, unless the keyboard was used last

  const showFocused = () => {
    const mark = markAt(document.activeElement);
    if (!mark) return hide();
    const place = mark.getBoundingClientRect();
    show(mark.dataset.of, place.left + place.width / 2, place.bottom - 8);
  };
  const showPointed = (element) => {
    const mark = markAt(element);
    if (mark) show(mark.dataset.of, pointer.x, pointer.y);
    else hide();
  };
  document.addEventListener("pointermove", (event) => {
    pointer = { x: event.clientX, y: event.clientY };
    showPointed(event.target);
  });
  document.addEventListener("scroll", () => {
    if (current === null) return;
    if (pointer) showPointed(document.elementFromPoint(pointer.x, pointer.y));
    else showFocused();
  }, { capture: true, passive: true });
  document.addEventListener("focusin", () => {
    pointer = null;
    showFocused();
  });

  const goTo = (name) => {
    const row = document.getElementById(name);
    if (!row) return;
    for (let outer = row.parentElement; outer; outer = outer.parentElement) {
      if (outer.tagName === "DETAILS") outer.open = true;
    }
    row.hidden = false;
    const details = row.querySelector("details");
    if (details) details.open = true;
    row.scrollIntoView({ block: "center" });
    details?.querySelector("summary").focus({ preventScroll: true });
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const mark = event.key === "Enter" && markOf(event);
    if (!mark) return;
    event.preventDefault(); // else it also closes the row that has just been opened
    goTo(mark.dataset.of);
  });

  // Pictures that are larger than their pane: zoom with the buttons or Ctrl and the wheel, drag.
  let dragged = false;
  for (const pane of document.querySelectorAll(".pane")) {
    const svg = pane.querySelector("svg");
    const tools = pane.parentElement.querySelector(".tools");
    if (!svg || !tools) continue;
    const natural = svg.viewBox.baseVal.width;
    let scale = null;
    const zoom = (to, x, y) => {
      const from = svg.getBoundingClientRect().width / natural;
      const box = pane.getBoundingClientRect();
      const atX = (x ?? box.left + box.width / 2) - box.left;
      const atY = (y ?? box.top + box.height / 2) - box.top;
      const [left, top] = [pane.scrollLeft + atX, pane.scrollTop + atY];
      scale = to === null ? null : Math.min(8, Math.max(0.05, to(from)));
      svg.style.maxWidth = scale === null ? "" : "none";
      svg.style.minWidth = scale === null ? "" : "0";
      svg.style.height = scale === null ? "" : "auto";
      svg.style.width = scale === null ? "" : `${natural * scale}px`;
      const grown = svg.getBoundingClientRect().width / natural / from;
      pane.scrollTo(left * grown - atX, top * grown - atY);
    };
    const steps = {
      in: () => zoom((from) => from * 1.4),
      out: () => zoom((from) => from / 1.4),
      fit: () => zoom(null),
      full: () => zoom(() => 1),
    };
    for (const button of tools.querySelectorAll("button")) {
      button.addEventListener("click", steps[button.dataset.zoom]);
    }
    tools.hidden = false;
    pane.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoom((from) => from * Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
    }, { passive: false });
    pane.addEventListener("pointerdown", (event) => {
      dragged = false;
      if (event.button !== 0 || event.pointerType !== "mouse") return;
      const [x, y] = [event.clientX, event.clientY];
      const [left, top] = [pane.scrollLeft, pane.scrollTop];
      const move = (to) => {
        if (Math.hypot(to.clientX - x, to.clientY - y) > 4) dragged = true;
        pane.scrollTo(left + x - to.clientX, top + y - to.clientY);
      };
      document.addEventListener("pointermove", move);
      document.addEventListener("pointerup", () => {
        document.removeEventListener("pointermove", move);
      }, { once: true });
    });
  }
  document.addEventListener("click", (event) => {
    const mark = !dragged && markOf(event);
    if (mark) goTo(mark.dataset.of);
    dragged = false;
  });

  for (const actions of document.querySelectorAll(".actions")) {
    const table = document.getElementById(actions.dataset.for);
    if (!table) continue;
    const rows = [...table.tBodies[0].rows];
    const [filter] = actions.getElementsByTagName("input");
    const [toggle] = actions.getElementsByTagName("button");
    filter?.addEventListener("input", () => {
      const wanted = filter.value.trim().toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    toggle?.addEventListener("click", () => {
      const all = rows.flatMap((row) => [...row.querySelectorAll("details")]);
      const open = !all.every((one) => one.open);
      for (const one of all) one.open = open;
    });
    actions.hidden = false;
  }
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details")) one.open = true;
  });
})();
