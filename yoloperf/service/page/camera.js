/** Pictures from a camera: the page's own finder where the browser allows one, else the phone's camera through a file input. */

export function camera({ button, capture, dialog, video, shoot, trouble }, taken) {
  let stream = null;
  button.addEventListener("click", open);
  dialog.addEventListener("close", stop);
  shoot.addEventListener("click", async () => {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
    const moment = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
    dialog.close();
    taken([new File([blob], `camera-${moment}.jpg`, { type: "image/jpeg" })]);
  });
  video.addEventListener("loadeddata", () => {
    shoot.disabled = false;
    shoot.focus();
  });

  async function open() {
    const phone = matchMedia("(pointer: coarse)").matches;
    if (phone || !navigator.mediaDevices) return capture.click(); // a finder of one's own needs https or localhost
    shoot.disabled = true;
    trouble.hidden = true;
    dialog.showModal();
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: { ideal: "environment" }, width: { ideal: 1920 } } });
    } catch (reason) {
      trouble.textContent = REASONS[reason.name] ?? `The camera cannot be used: ${reason.message}`;
      trouble.hidden = false;
      return undefined;
    }
    if (!dialog.open) return stop();
    video.srcObject = stream;
    return undefined;
  }

  function stop() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    video.srcObject = null;
  }
}

const REASONS = {
  NotAllowedError: "The camera is blocked for this page. Allow it in the browser's site settings, or choose a picture instead.",
  NotFoundError: "No camera was found. Connect one, or choose a picture instead.",
  NotReadableError: "Another program uses the camera. Close it and try again.",
};
