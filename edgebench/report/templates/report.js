(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // A finger on a chart scrolls the page; a mouse may zoom in.
  const drag = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  const coloured = (value, style) => {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map((each) => coloured(each, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each, style)]));
  };
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const [id, figure] of Object.entries(figures)) {
      const { data, layout } = coloured(figure, style);
      layout.dragmode = drag;
      layout.hoverlabel = { bgcolor: style.getPropertyValue("--panel").trim(), font: { color: style.getPropertyValue("--ink").trim() } };
      Plotly.react(id, data, layout, { displayModeBar: false, responsive: true });
    }
  };
  draw();
  dark.addEventListener("change", draw);
})();
