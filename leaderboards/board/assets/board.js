// The leaderboard: sorting by a column's button, and the filters. Without JavaScript the table is whole and sorted by task.
"use strict";
(() => {
  const table = document.getElementById("leaderboard");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const value = (row, place) => row.cells[place].dataset.value;

  function sortBy(place) {
    const head = heads[place];
    const numeric = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : numeric; // of numbers the largest is wanted first
    const sign = descending ? -1 : 1;
    rows.sort((one, other) => {
      const [a, b] = [value(one, place), value(other, place)];
      return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b));
    });
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    body.append(...rows);
  }
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => sortBy(place)));

  const place = Object.fromEntries(heads.map((head, number) => [head.dataset.key, number]));
  const field = (id) => document.getElementById(id);
  function filter() {
    const task = field("task").value, strategy = field("strategy").value;
    const budget = field("budget").value === "" ? Infinity : Number(field("budget").value);
    const words = field("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = (!task || value(row, place.task) === task) && (!strategy || value(row, place.strategy) === strategy)
        && Number(value(row, place.tokens)) <= budget && words.every((word) => text.includes(word));
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    field("count").textContent = shown === rows.length ? `${shown} runs` : `${shown} of ${rows.length} runs`;
  }
  field("filters").addEventListener("input", filter);
  field("filters").addEventListener("submit", (event) => event.preventDefault());
  filter(); // a browser may have kept the fields of an earlier visit
})();
