// Every wall by hand: draws one of the run's maps, for the image, the method and the height chosen.
const sweep = data.sweep;
const animals = sweep.images.map(({jpeg}) => picture(jpeg, show));

function show() {
  const image = at("image").value, method = at("method").value, height = sweep.heights[at("wall").value];
  const canvas = at("canvas"), context = canvas.getContext("2d"), size = canvas.width, scale = size / height.image_rows;
  const whole = [height.image_rows, height.image_rows], dead = height.dead_rows * scale;
  context.globalAlpha = 1;
  context.drawImage(animals[image], 0, 0, size, size);
  context.globalAlpha = 0.6;
  context.drawImage(heat(bytes(height.maps[method][image]), [height.map_rows, height.map_rows], whole), 0, 0, size, size);
  context.globalAlpha = 1;
  hatch(context, [0, size - dead, size, dead]);
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
