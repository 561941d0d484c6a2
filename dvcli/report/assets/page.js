"use strict";
// One clock, in ticks of the longest clip; whatever is on screen is drawn from it, so that no clip
// can be ahead of another.
(() => {
  const root = document.documentElement, body = document.body;
  const $ = (id) => document.getElementById(id);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const length = Number(body.dataset.length), fps = Number(body.dataset.fps);
  const views = all(".view"), films = new Map();
  const clock = { at: 0, speed: 1, playing: false, last: 0 };
  let wiping = true, everywhere = false;

  // The pictures are in the style sheet, once each: a canvas draws a frame of them with clean edges.
  for (const rule of document.styleSheets[0].cssRules) {
    const found = /^\.s(\d+)$/.exec(rule.selectorText || "");
    const url = found && /^url\("?(.*?)"?\)$/.exec(rule.style.backgroundImage);
    if (url) { const film = new Image(); film.src = url[1]; films.set(found[1], film); }
  }

  const reference = (view) => {
    const role = $("with").value;
    if (!role || view.dataset.role) return null;
    const near = (place) => place && all(".view[data-role]", place).find((v) => v.dataset.role === role);
    const only = views.filter((v) => v.dataset.role === role);
    return near(view.closest(".row")) || near(view.closest("section"))
      || (only.length === 1 ? only[0] : null);
  };
  const frameOf = (view) => Math.floor(Math.floor(clock.at) * view.dataset.n / length);
  const place = (view) => {
    const k = frameOf(view), columns = Number(view.dataset.columns);
    const w = Number(view.dataset.w), h = Number(view.dataset.h);
    return [films.get(view.dataset.strip), (k % columns) * w, Math.floor(k / columns) * h, w, h];
  };

  const draw = (view) => {
    const canvas = view.firstElementChild, pen = canvas.getContext("2d");
    const other = view.reference, film = place(view);
    if (!film[0].complete || !film[0].naturalWidth) return;
    const wholly = other && (everywhere || view.pressed);
    const wiped = other && !wholly && wiping && view.pointer !== null;
    pen.drawImage(...film, 0, 0, canvas.width, canvas.height);
    if (wholly || wiped) {
      const across = wholly ? canvas.width : Math.round(view.pointer * canvas.width);
      pen.imageSmoothingEnabled = Number(other.dataset.w) > canvas.width;
      pen.save(); pen.beginPath(); pen.rect(0, 0, across, canvas.height); pen.clip();
      pen.drawImage(...place(other), 0, 0, canvas.width, canvas.height); pen.restore();
    }
    view.badge.hidden = !(wholly || wiped);
    view.badge.textContent = other ? other.dataset.role : "";
    view.line.hidden = !wiped;
    if (wiped) view.line.style.left = `${view.pointer * 100}%`;
    canvas.dataset.frame = frameOf(view);
    canvas.dataset.shows = wholly ? other.dataset.role : wiped ? "wipe" : "self";
  };
  const drawAll = () => {
    for (const view of views) if (view.seen || !clock.playing) draw(view);
    const now = Math.floor(clock.at) + 1;
    $("frame").value = now; $("count").textContent = `${now}/${length}`;
  };

  const tick = (now) => {
    if (!clock.playing) return;
    const before = Math.floor(clock.at);
    clock.at = (clock.at + Math.min(now - clock.last, 1000) / 1000 * fps * clock.speed) % length;
    clock.last = now;
    if (Math.floor(clock.at) !== before) drawAll();
    requestAnimationFrame(tick);
  };
  const play = (on) => {
    if (on && !clock.playing) { clock.last = performance.now(); requestAnimationFrame(tick); }
    clock.playing = on;
    root.classList.toggle("playing", on);
    $("play").setAttribute("aria-label", on ? "Pause" : "Play");
  };
  const go = (frame) => { play(false); clock.at = (frame + length) % length; drawAll(); };
  const step = (by) => go(Math.floor(clock.at) + by);

  const watch = new IntersectionObserver((found) => {
    for (const { target, isIntersecting } of found) {
      target.seen = isIntersecting;
      if (isIntersecting) draw(target);
    }
  }, { rootMargin: "200px" });

  const across = (view, event) => {
    const box = view.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  for (const view of views) {
    const canvas = document.createElement("canvas");
    canvas.width = view.dataset.w; canvas.height = view.dataset.h;
    view.badge = document.createElement("i"); view.line = document.createElement("u");
    view.badge.hidden = view.line.hidden = true;
    view.replaceChildren(canvas, view.badge, view.line);
    view.pointer = null; view.pressed = false; view.seen = false;
    view.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") { view.pointer = across(view, event); draw(view); }
    });
    view.addEventListener("pointerdown", () => { view.pressed = true; draw(view); });
    for (const end of ["pointerup", "pointercancel"])
      view.addEventListener(end, () => { view.pressed = false; draw(view); });
    view.addEventListener("pointerleave", () => { view.pressed = false; view.pointer = null; draw(view); });
    watch.observe(view);
  }

  const relate = () => {
    for (const view of views) {
      view.reference = reference(view);
      view.classList.toggle("compared", Boolean(view.reference));
    }
    drawAll();
  };
  const roles = all("#with option").length > 1;
  for (const part of all(".with")) part.hidden = !roles;

  $("play").onclick = () => play(!clock.playing);
  $("back").onclick = () => step(-1);
  $("next").onclick = () => step(1);
  $("frame").oninput = () => go(Number($("frame").value) - 1);
  $("speed").onchange = () => { clock.speed = Number($("speed").value); };
  $("with").onchange = relate;
  $("size").oninput = () => root.style.setProperty("--tile", `${$("size").value}rem`);
  $("theme").onchange = () => { root.dataset.theme = $("theme").value; };

  // Filters and an order.
  const items = all(".item"), homes = items.map((item) => item.parentElement);
  const about = items.map((item) => ({
    words: item.dataset.words || "",
    axes: JSON.parse(item.dataset.axes || "{}"), figures: JSON.parse(item.dataset.figures || "{}"),
  }));
  const compare = (order) => (a, b) => {
    const name = order.slice(2), x = about[a], y = about[b];
    if (order[0] === "f") return (y.figures[name] ?? -Infinity) - (x.figures[name] ?? -Infinity) || a - b;
    if (order[0] === "a")
      return (x.axes[name] ?? "").localeCompare(y.axes[name] ?? "", undefined, { numeric: true }) || a - b;
    return a - b;
  };
  const find = () => {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = all("select[data-axis]").filter((s) => s.value).map((s) => [s.dataset.axis, s.value]);
    let count = 0;
    items.forEach((item, k) => {
      const fits = words.every((word) => about[k].words.includes(word))
        && chosen.every(([axis, value]) => about[k].axes[axis] === value);
      item.hidden = !fits; count += fits;
    });
    const places = items.map((_, k) => k).sort(compare($("order")?.value || ""));
    for (const k of places) homes[k].append(items[k]);
    for (const row of all(".row:not(.item)")) {
      const own = all(".item", row);
      row.hidden = own.length > 0 && own.every((item) => item.hidden);
    }
    $("shown").textContent = `${count} of ${items.length}`;
  };
  if ($("find")) {
    for (const control of all(".finder input, .finder select")) control.addEventListener("input", find);
    $("find").closest(".finder").hidden = false;
    find();
  }

  // Commands.
  const copied = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* older, or not allowed */ }
    const field = document.createElement("textarea");
    field.value = text; body.append(field); field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  };
  for (const button of all(".copy")) {
    button.hidden = false;
    button.onclick = async () => {
      const done = await copied(button.parentElement.querySelector("pre").textContent.trimEnd());
      button.textContent = done ? "Copied" : "Not allowed";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    };
  }

  // Keys.
  const hold = (on) => { if (everywhere !== on) { everywhere = on; drawAll(); } };
  addEventListener("keydown", (event) => {
    const own = event.target.closest?.("input, select, textarea, button, summary");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (own && !(own.matches("button, summary") && event.key !== " " && event.key !== "Enter")) return;
    const act = {
      " ": () => play(!clock.playing), ArrowLeft: () => step(-1), ArrowRight: () => step(1),
      c: () => hold(true), w: () => { wiping = !wiping; drawAll(); },
      "/": () => $("find")?.focus(),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) { event.preventDefault(); act(); }
  });
  addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "c") hold(false); });
  addEventListener("blur", () => hold(false));

  for (const part of all(".bar, .keys")) part.hidden = false;
  relate();
  Promise.all([...films.values()].map((film) => film.decode().catch(() => {}))).then(() => {
    root.classList.add("driven");
    drawAll();
    play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
    root.dataset.ready = "";
  });
})();
