// Draws one slice of each volume, in the plane and at the place that the reader chose. A sprite sheet holds the axial
// slices of a volume from the feet up, row by row; the other planes are put together from its lines.
(() => {
  "use strict";

  const drawSlice = (canvas, sprite, plane, place, [depth, height, width], columns) => {
    canvas.width = plane === 2 ? height : width;
    canvas.height = plane === 0 ? height : depth;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const left = (z) => (z % columns) * width;
    const top = (z) => Math.floor(z / columns) * height;
    if (plane === 0) {
      context.drawImage(sprite, left(place), top(place), width, height, 0, 0, width, height);
      return;
    }
    // A column of an axial slice is a row of a sagittal one: x and y change places.
    if (plane === 2) context.setTransform(0, 1, 1, 0, 0, 0);
    for (let z = 0; z < depth; z++) {
      const row = depth - 1 - z; // the head is at the top
      if (plane === 1) context.drawImage(sprite, left(z), top(z) + place, width, 1, 0, row, width, 1);
      else context.drawImage(sprite, left(z) + place, top(z), 1, height, row, 0, 1, height);
    }
  };

  const start = async (viewer) => {
    const size = viewer.dataset.size.split(" ").map(Number);
    const columns = Number(viewer.dataset.columns);
    const sprites = [...viewer.querySelectorAll("img.sprite")];
    await Promise.all(sprites.map((sprite) => sprite.decode()));
    const canvases = sprites.map((sprite) => {
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", sprite.alt);
      sprite.before(canvas);
      return canvas;
    });
    const controls = viewer.querySelector(".controls");
    const planes = [...controls.querySelectorAll("input[type=radio]")];
    const slider = controls.querySelector("input[type=range]");
    const told = controls.querySelector(".told");
    const places = size.map((length) => Math.floor(length / 2));
    let plane = 0;

    const show = () => {
      slider.max = size[plane];
      slider.value = places[plane] + 1;
      const words = `${places[plane] + 1} of ${size[plane]}`;
      told.textContent = words;
      slider.setAttribute("aria-valuetext", `${planes[plane].parentElement.textContent.trim()} slice ${words}`);
      canvases.forEach((canvas, i) => drawSlice(canvas, sprites[i], plane, places[plane], size, columns));
    };
    for (const choice of planes) {
      choice.addEventListener("change", () => {
        plane = Number(choice.value);
        show();
      });
    }
    slider.addEventListener("input", () => {
      places[plane] = Number(slider.value) - 1;
      show();
    });
    show();
    viewer.classList.add("live");
  };

  document.querySelectorAll(".viewer").forEach(start);
})();
