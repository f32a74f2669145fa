// What the page to try shares: maps in the figures' colours, and the hidden part hatched. No library, no request.
const at = id => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const colours = data.look.colours.match(/../g).map(pair => parseInt(pair, 16));
const one = number => number.toFixed(1);

// Scores on [0, 1], as walls.upscale scales them.
function minMax(scores) {
  const low = scores.reduce((a, b) => Math.min(a, b)), span = scores.reduce((a, b) => Math.max(a, b)) - low;
  return scores.map(score => (score - low) / (1e-7 + span));
}

// Where the pixels of a side lie among its scores: the two next to each, and how far it is from the first.
function steps(scores, pixels) {
  return Array.from({length: pixels}, (_, i) => {
    const place = Math.max(0, (i + 0.5) * scores / pixels - 0.5), first = Math.floor(place);
    return [first, Math.min(first + 1, scores - 1), place - first];
  });
}

// A map of rows × columns scores as a user sees it, height × width: walls.upscale.
function upscale(scores, [rows, columns], [height, width]) {
  const small = minMax(Float64Array.from(scores)), large = new Float64Array(height * width);
  const across = steps(columns, width);
  steps(rows, height).forEach(([top, bottom, down], y) => across.forEach(([left, right, along], x) => {
    const row = r => small[r * columns + left] * (1 - along) + small[r * columns + right] * along;
    large[y * width + x] = row(top) * (1 - down) + row(bottom) * down;
  }));
  return minMax(large);
}

// The map in colours, on a canvas of its own.
function heat(scores, shape, [height, width]) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  upscale(scores, shape, [height, width]).forEach((score, i) => {
    const colour = 3 * Math.round(255 * score);
    pixels.data.set([colours[colour], colours[colour + 1], colours[colour + 2], 255], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// The hidden part: its outline, hatched.
function hatch(context, [left, top, width, height], lines = "rgba(255, 255, 255, .45)") {
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.strokeStyle = lines;
  context.lineWidth = width / 300;
  context.beginPath();
  for (let x = left - height; x < left + width; x += width / 28) {
    context.moveTo(x, top + height);
    context.lineTo(x + height, top);
  }
  context.stroke();
  context.strokeStyle = data.look.dead;
  context.lineWidth = width / 75;
  context.strokeRect(left, top, width, height);
  context.restore();
}

// A JPEG as a picture, drawn once it is there.
function picture(jpeg, draw) {
  const found = new Image();
  found.onload = draw;
  found.src = "data:image/jpeg;base64," + jpeg;
  return found;
}
