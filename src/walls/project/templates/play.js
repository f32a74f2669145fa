// Photographs and a real network: draws one of the run's maps, for the photograph, the hidden part, the wall and the method chosen.
const play = data.play;
const GAP = 16; // between the image and its map
const pictures = play.pictures.map(jpeg => picture(jpeg, explain));

// The image of both parts, twice its size, with its left edge there.
function twoParts(context, left, photograph, lies, place) {
  const width = place.image_columns, seen = place.image_rows - place.dead_rows;
  context.drawImage(pictures[photograph.picture], 0, 0, width, seen, left, 0, 2 * width, 2 * seen);
  const from = place.stacked ? 0 : seen; // a whole image below, or the same rows of another one
  context.drawImage(pictures[lies.picture], 0, from, width, place.dead_rows, left, 2 * seen, 2 * width, 2 * place.dead_rows);
}

function explain() {
  const number = at("photograph").value, hidden = at("hidden").value, method = at("explained").value;
  const place = play.places[at("place").value], found = place.photographs[number];
  const photograph = play.photographs[number], lies = photograph.below[hidden];
  const canvas = at("pair"), width = 2 * place.image_columns, height = 2 * place.image_rows;
  Object.assign(canvas, {width: 2 * width + GAP, height});
  const context = canvas.getContext("2d"), right = width + GAP, top = height - 2 * place.dead_rows;
  twoParts(context, 0, photograph, lies, place);
  hatch(context, [0, top, width, height - top], data.look.dead);
  twoParts(context, right, photograph, lies, place);
  context.globalAlpha = 0.6;
  const shape = [place.map_rows, place.map_columns], size = [place.image_rows, place.image_columns];
  context.drawImage(heat(bytes(found.maps[hidden][method]), shape, size), right, 0, width, height);
  context.globalAlpha = 1;
  hatch(context, [right, top, width, height - top]);
  const mu = found.mu[hidden][method], predicted = found.logits[0][0];
  const share = (100 * place.dead_rows / place.image_rows).toFixed(0);
  at("rows-hidden").textContent = `${place.dead_rows} of ${place.image_rows} rows (${share}%)`;
  at("lies").textContent = lies.name;
  at("activity").textContent = mu === null ? "the map is empty" : one(mu);
  at("of-uniform").textContent = one(place.uniform);
  at("largest").textContent = `The ${found.logits.length} largest of ${place.classes} logits`;
  at("logits").tBodies[0].replaceChildren(...found.logits.map(([name, logit]) => {
    const row = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
    head.scope = "row";
    head.textContent = name;
    cell.textContent = logit.toFixed(3);
    row.append(head, cell);
    return row;
  }));
  at("moved").textContent = `They do not move: over the ${play.controls.length} choices of what lies there, `
    + `the largest change of any of the ${place.classes} logits is ${found.moved}.`;
  canvas.setAttribute("aria-label", `${photograph.name}; hidden: ${lies.name}. Beside it ${method}'s map of “${predicted}”`);
}

at("play").addEventListener("input", explain);
at("play").addEventListener("submit", event => event.preventDefault());
explain();
