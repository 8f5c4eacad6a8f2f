// Mathematics in elements of class "math". What a model wrote can't reach beyond KaTeX: no links, no HTML, bounded expansion.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".math")) {
    renderMathInElement(element, {
      delimiters: [
        { left: "$$", right: "$$", display: true }, { left: "\\[", right: "\\]", display: true },
        { left: "\\(", right: "\\)", display: false },
      ],
      throwOnError: false, errorColor: "#b3261e", trust: false, maxExpand: 200, maxSize: 20, strict: "ignore",
    });
  }
});
