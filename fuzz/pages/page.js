"use strict";
// What a bar is, under the pointer and under the keyboard. Without this, browsers show the titles themselves.
(() => {
  const bars = document.querySelectorAll(".bar");
  if (!bars.length) return;
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  for (const bar of bars) {
    const title = bar.querySelector("title");
    bar.dataset.tip = title.textContent;
    bar.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const show = (bar, x, y) => {
    tip.textContent = bar.dataset.tip;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const room = document.documentElement;
    tip.style.left = `${Math.max(4, Math.min(x + 14, room.clientWidth - box.width - 8))}px`;
    const below = y + 18;
    tip.style.top = `${below + box.height < room.clientHeight ? below : Math.max(4, y - box.height - 14)}px`;
  };
  const hide = () => { tip.hidden = true; };
  const barOf = (event) => (event.target instanceof Element ? event.target.closest(".bar") : null);
  document.addEventListener("pointermove", (event) => {
    const bar = barOf(event);
    if (bar) show(bar, event.clientX, event.clientY);
    else if (!document.activeElement || !document.activeElement.matches(".bar:focus-visible")) hide();
  });
  document.addEventListener("focusin", (event) => {
    const bar = barOf(event);
    if (!bar) return hide();
    const box = bar.getBoundingClientRect();
    show(bar, box.left, box.bottom);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", hide, true);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
})();

// The table of findings: sorted by its heads, filtered by words and status.
(() => {
  const table = document.querySelector(".findings");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const key = (row, column) => {
    const { sort } = row.cells[column].dataset;
    return heads[column].dataset.kind === "number" ? Number(sort) : sort;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const first = head.dataset.kind === "text" ? "ascending" : "descending";
      const second = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].sort((a, b) => sign * compare(key(a, column), key(b, column)));
      body.append(...rows);
    });
  });
  const tools = document.querySelector(".tools");
  const words = tools.querySelector("input");
  const status = tools.querySelector("select");
  const shown = tools.querySelector("output");
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      const fits = wanted.every((word) => text.includes(word)) && (!status.value || row.dataset.status === status.value);
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${body.rows.length}`;
  };
  words.addEventListener("input", filter);
  status.addEventListener("change", filter);
  tools.hidden = false;
  filter();
})();
