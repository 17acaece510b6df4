/** A picture on a canvas that fits its holder, zooms and moves: by wheel, pinch, drag and keys. */

const MOST = 16;

export class View {
  /** `paint(context, {scale, left, top, unit})` draws; `point(x, y, clicked)` hears of the pointer in the picture's pixels. */
  constructor(holder, canvas, paint, point) {
    Object.assign(this, { holder, canvas, paint, point, zoom: 1, x: 0.5, y: 0.5, width: 0, height: 0, fingers: new Map() });
    new ResizeObserver(() => this.draw()).observe(holder);
    holder.addEventListener("keydown", (event) => this.key(event));
    holder.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => this.point(null));
  }

  /** Show a picture of this size, whole. */
  open(width, height) {
    Object.assign(this, { width, height });
    this.holder.style.aspectRatio = `${width} / ${height}`;
    this.fit();
  }

  fit() {
    Object.assign(this, { zoom: 1, x: 0.5, y: 0.5 });
    this.draw();
  }

  /** Zoom by a factor around a point of the canvas in CSS pixels, its middle unless told. */
  scale(factor, cx = this.canvas.clientWidth / 2, cy = this.canvas.clientHeight / 2) {
    const before = this.place();
    const zoom = Math.min(MOST, Math.max(1, this.zoom * factor));
    const grown = zoom / this.zoom;
    this.zoom = zoom;
    this.x += ((cx - this.canvas.clientWidth / 2) * (1 - 1 / grown)) / (before.scale * this.width);
    this.y += ((cy - this.canvas.clientHeight / 2) * (1 - 1 / grown)) / (before.scale * this.height);
    this.draw();
  }

  /** Move the picture by CSS pixels. */
  shift(dx, dy) {
    const { scale } = this.place();
    this.x -= dx / (scale * this.width);
    this.y -= dy / (scale * this.height);
    this.draw();
  }

  /** From the picture's pixels to the canvas's CSS pixels; the picture never leaves a gap that it could fill. */
  place() {
    const [wide, high] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const scale = Math.min(wide / this.width, high / this.height) * this.zoom;
    const clamp = (at, extent, room) => (extent <= room ? 0.5 : Math.min(1 - room / extent / 2, Math.max(room / extent / 2, at)));
    this.x = clamp(this.x, this.width * scale, wide);
    this.y = clamp(this.y, this.height * scale, high);
    return { scale, left: wide / 2 - this.x * this.width * scale, top: high / 2 - this.y * this.height * scale };
  }

  draw() {
    if (!this.width || !this.canvas.clientWidth) return;
    const unit = window.devicePixelRatio || 1;
    const [wide, high] = [this.canvas.clientWidth, this.canvas.clientHeight].map((side) => Math.round(side * unit));
    if (this.canvas.width !== wide || this.canvas.height !== high) Object.assign(this.canvas, { width: wide, height: high });
    this.canvas.classList.toggle("zoomed", this.zoom > 1);
    const { scale, left, top } = this.place();
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, wide, high);
    context.imageSmoothingEnabled = scale < 3; // pixels, when someone looks that closely
    this.paint(context, { scale: scale * unit, left: left * unit, top: top * unit, unit });
  }

  key(event) {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") this.scale(1.3);
    else if (event.key === "-") this.scale(1 / 1.3);
    else if (event.key === "0") this.fit();
    else if (moves[event.key] && this.zoom > 1) this.shift(...moves[event.key]);
    else return;
    event.preventDefault();
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // the plain wheel scrolls the page; a pinch on a touchpad comes with ctrl
    event.preventDefault();
    this.scale(Math.exp(-event.deltaY / 200), ...this.local(event));
  }

  down(event) {
    this.fingers.set(event.pointerId, event);
    this.moved = false;
    if (this.zoom > 1 || this.fingers.size > 1) this.canvas.setPointerCapture(event.pointerId);
  }

  move(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return this.point(...this.inPicture(event), false);
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (Math.hypot(dx, dy) < 3 && !this.moved) return undefined;
    this.moved = true;
    const others = [...this.fingers.values()].filter((finger) => finger.pointerId !== event.pointerId);
    this.fingers.set(event.pointerId, event);
    if (!others.length) return this.shift(dx, dy);
    const apart = (finger) => Math.hypot(finger.clientX - others[0].clientX, finger.clientY - others[0].clientY);
    return this.scale(apart(event) / Math.max(1, apart(before)), ...this.local(event));
  }

  up(event) {
    if (this.fingers.delete(event.pointerId) && !this.moved && event.type === "pointerup") this.point(...this.inPicture(event), true);
  }

  local(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  inPicture(event) {
    const { scale, left, top } = this.place();
    const [x, y] = this.local(event);
    return [(x - left) / scale, (y - top) / scale];
  }
}
