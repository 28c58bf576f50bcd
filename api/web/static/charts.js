// Draws every figure of the page from the JSON beside its canvas, in the colours of the style sheet.
(function () {
  "use strict";
  const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  // The height of a line of text, in bars.
  const LINE_BARS = 0.52;
  const drawn = new Map();

  function formatBytes(count) {
    let size = Math.abs(count);
    let unit = 0;
    while (size >= 1023.95 && unit < UNITS.length - 1) {
      size /= 1024;
      unit += 1;
    }
    const sign = count < 0 ? "−" : "";
    return sign + (unit ? size.toFixed(1) : size.toFixed(0)) + " " + UNITS[unit];
  }

  // Round numbers of a binary unit, where Chart.js would take decimal ones.
  function stepBytes(most) {
    const unit = 1024 ** Math.max(0, Math.floor(Math.log(Math.max(1, most)) / Math.log(1024)));
    const wanted = most / unit / 5;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500];
    return unit * (steps.find((step) => step >= wanted) || 500);
  }

  // As an element has it: the property itself still holds the colours of both themes.
  function colour(name) {
    const probe = document.createElement("span");
    probe.style.color = "var(--chart-" + name + ")";
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  function largest(data) {
    const ends = data.labels.map((_, i) => {
      const values = data.series.map((series) => Math.max(...[series.values[i] || 0].flat()));
      return data.kind === "stacked" ? values.reduce((a, b) => a + b, 0) : Math.max(...values);
    });
    return Math.max(1, ...ends);
  }

  // Days as numbers, so that a gap in time is a gap in the chart.
  function dayNumber(day) {
    return Date.parse(day) / 86400000;
  }

  function dayName(number) {
    return new Date(number * 86400000).toISOString().slice(0, 10);
  }

  // The first and the last day and some between, as many as have room beside each other.
  function spreadDays(first, last, width) {
    const parts = Math.max(1, Math.min(last - first, width < 480 ? 2 : 6));
    const days = Array.from({ length: parts + 1 }, (_, i) => Math.round(first + ((last - first) * i) / parts));
    return [...new Set(days)].map((day) => ({ value: day }));
  }

  function datasets(data) {
    return data.series.map((series) => {
      const own = colour(series.colour);
      const each = data.colours.length ? data.colours.map(colour) : own;
      return data.kind === "lines"
        ? {
            label: series.name,
            data: series.values.map((value, i) => ({ x: dayNumber(data.labels[i]), y: value })),
            borderColor: own,
            backgroundColor: own,
            borderWidth: 2,
            pointRadius: data.labels.length > 40 ? 0 : 2,
            tension: 0,
            clip: false,
            spanGaps: false,
          }
        : {
            label: series.name,
            data: series.values,
            backgroundColor: each,
            borderWidth: 0,
            borderRadius: 2,
            maxBarThickness: 22,
            barPercentage: 0.85,
            categoryPercentage: 0.8,
            minBarLength: 2,
          };
    });
  }

  function describe(data, item) {
    const value = data.series[item.datasetIndex].values[item.dataIndex];
    if (!Array.isArray(value)) return data.series[item.datasetIndex].name + ": " + formatBytes(value);
    const change = value[1] - value[0];
    const plus = data.colours[item.dataIndex] === "total" || change < 0 ? "" : "+";
    return plus + formatBytes(change);
  }

  // Long names on several lines, broken where names are made of parts, so that none is cut.
  function wrapName(name, width) {
    const most = Math.max(14, Math.floor(width / 16));
    const lines = [""];
    for (const part of name.match(/[^/._\s-]+[/._\s-]*|[/._\s-]+/g) || [name]) {
      const pieces = part.match(new RegExp(".{1," + most + "}", "g"));
      for (const piece of pieces) {
        if (lines[lines.length - 1] && (lines[lines.length - 1] + piece).length > most) lines.push("");
        lines[lines.length - 1] += piece;
      }
    }
    return lines;
  }

  // What stands at the end of a bar: its own value, of stacked ones the sum.
  function barText(data, index, at) {
    const value = data.series[at].values[index];
    if (value === null || value === undefined) return "";
    if (Array.isArray(value)) return describe(data, { datasetIndex: at, dataIndex: index });
    if (data.kind !== "stacked") return formatBytes(value);
    if (at < data.series.length - 1) return "";
    return formatBytes(data.series.reduce((sum, series) => sum + (series.values[index] || 0), 0));
  }

  function labelBars(data) {
    return {
      id: "values",
      afterDatasetsDraw(chart) {
        const context = chart.ctx;
        context.save();
        context.font = "11px " + Chart.defaults.font.family;
        context.fillStyle = colour("text");
        context.textBaseline = "middle";
        chart.data.datasets.forEach((_, at) => {
          chart.getDatasetMeta(at).data.forEach((bar, index) => {
            const text = barText(data, index, at);
            const end = Math.max(bar.x, bar.base);
            context.fillText(text, end + 4, bar.y);
          });
        });
        context.restore();
      },
    };
  }

  function options(data, width) {
    const most = largest(data);
    const stacked = data.kind === "stacked";
    const sideways = data.kind !== "lines";
    const bytes = {
      beginAtZero: true,
      stacked: stacked,
      // Room for the values at the ends of bars.
      suggestedMax: sideways ? most * (width < 480 ? 1.4 : 1.18) : undefined,
      ticks: {
        color: colour("text"),
        callback: formatBytes,
        stepSize: stepBytes(most) * (width < 480 ? 2 : 1),
        maxRotation: 0,
        autoSkipPadding: 14,
      },
      grid: { color: colour("grid") },
      border: { display: false },
    };
    const days = {
      type: "linear",
      min: data.labels.length ? dayNumber(data.labels[0]) : undefined,
      max: data.labels.length ? dayNumber(data.labels[data.labels.length - 1]) : undefined,
      ticks: { color: colour("text"), callback: dayName, autoSkip: false, maxRotation: 0 },
      afterBuildTicks: (scale) => (scale.ticks = spreadDays(scale.min, scale.max, width)),
      grid: { display: false },
      border: { color: colour("grid") },
    };
    const names = {
      stacked: stacked,
      ticks: {
        color: colour("text"),
        autoSkip: false,
        callback: (_, index) => wrapName(data.labels[index], width),
      },
      grid: { display: false },
      border: { color: colour("grid") },
    };
    return {
      indexAxis: sideways ? "y" : "x",
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      layout: { padding: { top: sideways ? 6 * (wrapName(data.labels[0] || "", width).length - 1) : 0 } },
      scales: sideways ? { x: bytes, y: names } : { x: days, y: bytes },
      plugins: {
        legend: {
          display: data.series.length > 1,
          position: "bottom",
          labels: { color: colour("text"), boxWidth: 12, boxHeight: 12 },
        },
        tooltip: {
          callbacks: {
            title: (items) => data.labels[items[0].dataIndex],
            label: (item) => describe(data, item),
          },
        },
      },
    };
  }

  function draw(figure) {
    const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const canvas = figure.querySelector("canvas");
    if (data.kind !== "lines") {
      const width = canvas.parentElement.clientWidth;
      const each = data.labels.map((name) => wrapName(name, width).length);
      // Neighbours share the room between them.
      const lines = Math.max(1, ...each.map((n, i) => (n + (each[i + 1] || each[i - 1] || 1)) / 2));
      const bars = data.labels.length * Math.max(data.kind === "bars" ? 1.6 : 1, lines * LINE_BARS);
      figure.style.setProperty("--bars", bars.toFixed(1));
    }
    if (drawn.has(figure)) drawn.get(figure).destroy();
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.font.size = 12;
    const type = data.kind === "lines" ? "line" : "bar";
    const chart = new Chart(canvas, {
      type: type,
      data: { labels: data.labels, datasets: datasets(data) },
      options: options(data, canvas.parentElement.clientWidth),
      plugins: data.kind === "lines" ? [] : [labelBars(data)],
    });
    drawn.set(figure, chart);
    offerImage(figure, data.title);
  }

  function offerImage(figure, title) {
    if (figure.querySelector(".save")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "save";
    button.textContent = "Save as PNG";
    button.setAttribute("aria-label", "Save as PNG: " + title);
    button.addEventListener("click", () => saveImage(figure));
    figure.append(button);
  }

  // On the colour of the page: a transparent picture is unreadable on another ground.
  function saveImage(figure) {
    const canvas = figure.querySelector("canvas");
    const picture = document.createElement("canvas");
    picture.width = canvas.width;
    picture.height = canvas.height;
    const context = picture.getContext("2d");
    context.fillStyle = getComputedStyle(figure).backgroundColor;
    context.fillRect(0, 0, picture.width, picture.height);
    context.drawImage(canvas, 0, 0);
    const link = document.createElement("a");
    link.href = picture.toDataURL("image/png");
    link.download = figure.id + ".png";
    link.click();
  }

  function drawAll() {
    document.querySelectorAll("figure.chart").forEach(draw);
    document.documentElement.dataset.charts = String(drawn.size);
  }

  document.addEventListener("DOMContentLoaded", function () {
    drawAll();
    document.documentElement.addEventListener("themechange", drawAll);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  });
})();
