// Zoom and pan: which part of the image the canvas shows, changed by wheel and fingers.

const LARGEST = 64; // pixels of the screen for one of the image
const A_TAP = 5; // pixels that a finger may move in a tap

export class Viewport {
  // `scale`: pixels of the canvas for one of the image; `x`, `y`: the place in the image
  // at the upper left corner of the canvas.
  constructor(canvas, { onChange, onPoint, onTap }) {
    Object.assign(this, { canvas, onChange, onPoint, onTap });
    Object.assign(this, { scale: 1, x: 0, y: 0, width: 1, height: 1, isFitted: true });
    this.pointers = new Map();
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.release(event));
    }
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.onPoint(null); // a finger leaves after a tap
    });
    canvas.addEventListener("dblclick", (event) => this.zoom(2, this.place(event)));
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  setSize(width, height) {
    Object.assign(this, { width, height });
    this.fit();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.isFitted) this.fit();
    else this.keepInside();
  }

  get smallest() {
    const { canvas, width, height } = this;
    return Math.min(canvas.width / width, canvas.height / height);
  }

  fit() {
    this.scale = Math.min(this.smallest, LARGEST);
    this.x = (this.width - this.canvas.width / this.scale) / 2;
    this.y = (this.height - this.canvas.height / this.scale) / 2;
    this.isFitted = true;
    this.onChange();
  }

  // Zooms by a factor around a place of the canvas.
  zoom(factor, [left, top] = [this.canvas.width / 2, this.canvas.height / 2]) {
    const lowest = Math.min(this.smallest, 1);
    const scale = Math.min(Math.max(this.scale * factor, lowest), LARGEST);
    this.x += left / this.scale - left / scale;
    this.y += top / this.scale - top / scale;
    this.scale = scale;
    this.isFitted = false;
    this.keepInside();
  }

  actual() {
    this.zoom(1 / this.scale);
  }

  pan(left, top) {
    this.x -= left / this.scale;
    this.y -= top / this.scale;
    this.isFitted = false;
    this.keepInside();
  }

  // The middle of the canvas stays in the image; a smaller image is in the middle.
  keepInside() {
    const half = [this.canvas.width / this.scale / 2, this.canvas.height / this.scale / 2];
    const inside = (start, size, reach) => (2 * reach >= size
      ? size / 2 - reach
      : Math.min(Math.max(start, -reach / 2), size - 1.5 * reach));
    this.x = inside(this.x, this.width, half[0]);
    this.y = inside(this.y, this.height, half[1]);
    this.onChange();
  }

  // The place of an event on the canvas, in its pixels.
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  // The pixel of the image at a place of the canvas; null outside.
  pixel([left, top]) {
    const [x, y] = [this.x + left / this.scale, this.y + top / this.scale].map(Math.floor);
    return x >= 0 && y >= 0 && x < this.width && y < this.height ? [x, y] : null;
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0018; // a pinch on a touch pad has ctrlKey
    this.zoom(Math.exp(-speed * lines * event.deltaY), this.place(event));
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    if (this.pointers.size === 1) this.moved = 0;
    else this.moved = Infinity;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    const now = this.place(event);
    if (!before) {
      this.onPoint(this.pixel(now));
      return;
    }
    this.moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) {
      const distance = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
      const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
      this.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      this.zoom(distance(now) / distance(before), middle);
    } else if (this.moved > A_TAP) {
      this.canvas.classList.add("dragged");
      this.pan(now[0] - before[0], now[1] - before[1]);
    }
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    this.canvas.classList.remove("dragged");
    if (this.pointers.size === 0 && this.moved <= A_TAP && event.type === "pointerup") {
      this.onTap(this.pixel(this.place(event)));
    }
  }
}
