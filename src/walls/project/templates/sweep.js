// Every wall by hand: draws one of the run's maps, for the image, the method and the height chosen. No library, no request.
const sweep = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const colours = sweep.colours.match(/../g).map(pair => parseInt(pair, 16));
const DEAD = sweep.dead;

// Scores on [0, 1], as walls.upscale scales them.
function minMax(scores) {
  const low = scores.reduce((a, b) => Math.min(a, b)), span = scores.reduce((a, b) => Math.max(a, b)) - low;
  return scores.map(score => (score - low) / (1e-7 + span));
}

// A map of n × n scores as a user sees it, size × size: walls.upscale.
function upscale(scores, n, size) {
  const small = minMax(Float64Array.from(scores)), large = new Float64Array(size * size);
  const steps = Array.from({length: size}, (_, i) => {
    const place = Math.max(0, (i + 0.5) * n / size - 0.5), first = Math.floor(place);
    return [first, Math.min(first + 1, n - 1), place - first];
  });
  steps.forEach(([top, bottom, down], y) => steps.forEach(([left, right, along], x) => {
    const row = r => small[r * n + left] * (1 - along) + small[r * n + right] * along;
    large[y * size + x] = row(top) * (1 - down) + row(bottom) * down;
  }));
  return minMax(large);
}

// The map in colours, on a canvas of its own.
function heat(scores, n, size) {
  const canvas = Object.assign(document.createElement("canvas"), {width: size, height: size});
  const context = canvas.getContext("2d"), pixels = context.createImageData(size, size);
  upscale(scores, n, size).forEach((score, i) => {
    const colour = 3 * Math.round(255 * score);
    pixels.data.set([colours[colour], colours[colour + 1], colours[colour + 2], 255], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// The dead zone: its outline, hatched.
function hatch(context, top, size) {
  context.save();
  context.beginPath();
  context.rect(0, top, size, size - top);
  context.clip();
  context.strokeStyle = "rgba(255, 255, 255, .45)";
  context.lineWidth = size / 300;
  context.beginPath();
  for (let x = -size; x < size; x += size / 28) {
    context.moveTo(x, size);
    context.lineTo(x + size, 0);
  }
  context.stroke();
  context.strokeStyle = DEAD;
  context.lineWidth = size / 75;
  context.strokeRect(0, top, size, size - top);
  context.restore();
}

const one = number => number.toFixed(1);
const photographs = sweep.images.map(({jpeg}) => {
  const photograph = new Image();
  photograph.onload = show;
  photograph.src = "data:image/jpeg;base64," + jpeg;
  return photograph;
});

function show() {
  const image = at("image").value, method = at("method").value, height = sweep.heights[at("wall").value];
  const canvas = at("canvas"), context = canvas.getContext("2d"), size = canvas.width, scale = size / height.image_rows;
  context.globalAlpha = 1;
  context.drawImage(photographs[image], 0, 0, size, size);
  context.globalAlpha = 0.6;
  context.drawImage(heat(bytes(height.maps[method][image]), height.map_rows, height.image_rows), 0, 0, size, size);
  context.globalAlpha = 1;
  hatch(context, size - height.dead_rows * scale, size);
  const mu = height.mu[method][image], mean = height.mean[method];
  const share = 100 * height.dead_rows / height.image_rows;
  at("rows").value = `${height.wall_rows} of ${height.map_rows} rows`;
  at("wall").setAttribute("aria-valuetext", at("rows").value);
  at("dead").textContent = `${height.dead_rows} of ${height.image_rows} rows (${share.toFixed(0)}%)`;
  at("mu").textContent = mu === null ? "the map is empty" : one(mu);
  at("uniform").textContent = one(height.uniform);
  at("mean").textContent = mean === null ? "all maps are empty" : one(mean);
  at("predicted").textContent = height.predicted[image];
  at("top1").textContent = one(100 * height.top1) + "%";
  canvas.setAttribute("aria-label", `${sweep.images[image].name}, with ${method}'s map laid over it`);
}

const trained = sweep.heights.findIndex(height => height.wall_rows === sweep.trained);
at("wall").value = Math.max(0, trained);
at("sweep").addEventListener("input", show);
at("sweep").addEventListener("submit", event => event.preventDefault());
show();
