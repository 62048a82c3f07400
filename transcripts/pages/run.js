{
  const ROW = 26, SPARE = 8, SVG = "http://www.w3.org/2000/svg";
  const messages = data.messages, find = (id) => document.getElementById(id);
  const list = find("list"), spacer = find("spacer"), detail = find("detail");
  const words = find("words"), sender = find("sender"), phase = find("phase"), count = find("count");
  const folded = messages.map((m) => (m.label + " " + m.label.replace(/\.\d+(?=\/|$)/g, "")).toLowerCase());
  const place = new Map(messages.map((m, i) => [m.seq, i]));
  const rows = new Map();  // index into messages -> its element, for those that are on the screen
  let shown = [], chosen = -1;

  const draw = (tag, attributes) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  const arrow = (m) => {
    const svg = draw("svg", {viewBox: "0 0 144 26", "aria-hidden": "true"});
    for (const x of [8, 136]) svg.append(draw("line", {class: "life", x1: x, x2: x, y1: 0, y2: 26}));
    const up = m.sender === "client", width = Math.min(1 + Math.log10(m.nbytes + 1) / 2, 5);
    const group = draw("g", {class: up ? "first-arrow" : "second-arrow"});
    group.append(draw("line", {x1: up ? 10 : 134, x2: up ? 126 : 18, y1: 13, y2: 13, "stroke-width": width.toFixed(1)}));
    group.append(draw("path", {d: up ? "M126 8 L134 13 L126 18 Z" : "M18 8 L10 13 L18 18 Z"}));
    svg.append(group);
    return svg;
  };

  // The end of a label says what the message is; the whole stands in the detail.
  const tail = (label) => {
    const parts = label.split("/");
    let dropped = 0;
    while (parts.length - dropped > 1 && parts.slice(dropped).join("/").length > 44) dropped++;
    return (dropped ? "…/" : "") + parts.slice(dropped).join("/");
  };

  const build = (at) => {
    const m = messages[shown[at]], row = make("div", "row");
    row.id = `row-${m.seq}`;
    row.classList.toggle("odd", m.depth % 2 === 1);  // messages of one round look alike
    row.classList.toggle("starts", at > 0 && messages[shown[at - 1]].phase !== m.phase);
    row.setAttribute("role", "option");
    row.setAttribute("aria-setsize", shown.length);
    row.setAttribute("aria-posinset", at + 1);
    row.setAttribute("aria-label", `message ${m.seq}, from the ${m.sender}, ${m.nbytes} bytes, ${m.label}`);
    row.style.top = `${at * ROW}px`;
    row.append(make("span", "seq", m.seq), make("span", "depth", m.depth), arrow(m));
    row.append(make("span", "size", m.nbytes.toLocaleString("en")), make("span", "label", tail(m.label)));
    row.title = m.label;
    row.addEventListener("click", () => choose(shown[at], true));
    list.append(row);
    return row;
  };

  const paint = () => {
    const first = Math.max(Math.floor(list.scrollTop / ROW) - SPARE, 0);
    const last = Math.min(Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE, shown.length);
    for (const [at, row] of rows) if (at < first || at >= last) { row.remove(); rows.delete(at); }
    for (let at = first; at < last; at++) {
      if (!rows.has(at)) rows.set(at, build(at));
      rows.get(at).setAttribute("aria-selected", String(shown[at] === chosen));
    }
    if (chosen >= 0) list.setAttribute("aria-activedescendant", `row-${messages[chosen].seq}`);
  };

  const reveal = () => {
    const at = shown.indexOf(chosen), top = at * ROW;
    if (at < 0) return;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  };

  const refilter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = [];
    messages.forEach((m, i) => {
      if (sender.value && m.sender !== sender.value) return;
      if (phase.value && m.phase !== phase.value) return;
      if (wanted.every((word) => folded[i].includes(word))) shown.push(i);
    });
    for (const row of rows.values()) row.remove();
    rows.clear();
    spacer.style.height = `${shown.length * ROW}px`;
    count.textContent = `${shown.length.toLocaleString("en")} of ${messages.length.toLocaleString("en")} messages`;
    list.scrollTop = 0;
    reveal();
    paint();
  };

  const clear = () => {
    words.value = sender.value = phase.value = "";
    refilter();
  };

  // The first elements of a ring array: `bits` bits each, little-endian, as unsigned and as signed numbers.
  const values = (m, bytes) => {
    const stream = bytes.reduceRight((total, byte) => (total << 8n) | BigInt(byte), 0n), found = [];
    for (let i = 0; i < Math.min(m.size, data.shownWords); i++) {
      const word = BigInt.asUintN(m.bits, stream >> BigInt(i * m.bits));
      const signed = BigInt.asIntN(m.bits, word);
      found.push(`0x${word.toString(16)} (${signed})`);
    }
    if (m.size > data.shownWords) found.push(`... ${(m.size - data.shownWords).toLocaleString("en")} more elements`);
    return `values  ${found.join(", ")}`;
  };

  const dump = (bytes) => {
    const lines = [];
    for (let at = 0; at < bytes.length; at += 16) {
      const part = bytes.slice(at, at + 16);
      const hex = part.map((b) => b.toString(16).padStart(2, "0")).join(" ").padEnd(47);
      const plain = part.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : ".")).join("");
      lines.push(`${at.toString(16).padStart(6, "0")}  ${hex}  ${plain}`);
    }
    return lines.join("\n");
  };

  const tell = (i) => {
    const m = messages[i], nav = make("nav"), facts = make("dl");
    for (const [to, text] of [[i - 1, "previous"], [i + 1, "next"]]) {
      if (!messages[to]) continue;
      const link = make("a", "", text);
      link.href = `#m${messages[to].seq}`;
      nav.append(link);
    }
    const to = m.sender === "client" ? "server" : "client";
    const told = {label: m.label, phase: m.phase, depth: m.depth, content: m.type, digest: m.digest};
    for (const [name, value] of Object.entries(told)) facts.append(make("dt", "", name), make("dd", "mono", value));
    detail.replaceChildren(nav, make("h3", "", `message ${m.seq}: ${m.sender} → ${to}`), facts);
    const bytes = [...atob(m.head)].map((c) => c.charCodeAt(0)), left = m.nbytes - bytes.length;
    const lines = m.lines || [values(m, bytes)];
    detail.append(...lines.map((line) => make("p", "mono", line)));
    if (bytes.length) detail.append(make("pre", "", dump(bytes)));
    if (bytes.length && left > 0) detail.append(make("p", "muted", `${left.toLocaleString("en")} more bytes: secmoe inspect --message ${m.seq} --json`));
  };

  const choose = (i, link) => {
    chosen = i;
    if (!shown.includes(i)) clear();
    reveal();
    paint();
    tell(i);
    if (link) history.replaceState(null, "", `#m${messages[i].seq}`);
  };

  const follow = () => {
    const wanted = /^#m(\d{1,15})$/.exec(location.hash);
    if (!wanted) return;
    const i = place.get(Number(wanted[1]));
    if (i === undefined) detail.replaceChildren(make("p", "", `message ${wanted[1]} is not in this page`));
    else choose(i, false);
  };

  const steps = {
    ArrowDown: (at) => at + 1, ArrowUp: (at) => at - 1, Home: () => 0, End: () => shown.length - 1,
    PageDown: (at) => at + Math.floor(list.clientHeight / ROW), PageUp: (at) => at - Math.floor(list.clientHeight / ROW),
  };
  list.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { detail.focus(); return; }
    const step = steps[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey || !shown.length) return;
    event.preventDefault();
    const at = shown.indexOf(chosen);
    choose(shown[Math.min(Math.max(at < 0 ? (event.key === "End" ? shown.length - 1 : 0) : step(at), 0), shown.length - 1)], true);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "/" && !typing) { event.preventDefault(); words.focus(); }
    if (event.key === "Escape" && (typing || document.activeElement === list || detail.contains(document.activeElement))) {
      clear();
      list.focus();
    }
  });
  find("filter").addEventListener("submit", (event) => { event.preventDefault(); list.focus(); });
  for (const control of [words, sender, phase]) control.addEventListener("input", refilter);
  for (const button of document.querySelectorAll("button.scope")) {
    button.addEventListener("click", () => { words.value = button.dataset.scope; refilter(); list.focus(); });
  }
  list.addEventListener("scroll", () => requestAnimationFrame(paint));
  addEventListener("resize", paint);
  addEventListener("hashchange", follow);
  for (const name of data.phases) { const option = make("option", "", name); option.value = name; phase.append(option); }
  refilter();
  follow();
}
