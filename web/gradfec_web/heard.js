// Counts in the browser for how long the daemon has not been heard, even if the page's server is gone, too.
// The server writes into the header when a record has come (data-beat), and how old it was by then (data-age).
(() => {
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let header = null, beat = null, heardAt = 0;

  const span = (seconds) => {
    const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? UNITS.at(-1);
    return `${Math.floor(seconds / size)}\u00a0${unit}`;
  };

  const note = () => {
    if (header.dataset.beat === beat) return;
    beat = header.dataset.beat;
    heardAt = Date.now() - 1000 * Number(header.dataset.age);
    show();
  };

  const show = () => {
    if (beat === undefined) return; // nothing has ever come
    const silence = (Date.now() - heardAt) / 1000;
    const late = silence > Number(header.dataset.overdue);
    document.body.classList.toggle("late", late);
    header.querySelector(".heard").textContent = late ? `last heard ${span(silence)} ago` : "";
  };

  const look = setInterval(() => {
    header = document.querySelector(".top");
    if (!header) return;
    clearInterval(look);
    // At once, and not with the timer: browsers slow down the timers of a hidden tab.
    new MutationObserver(note).observe(header, { attributes: true });
    note();
    setInterval(show, 250);
  }, 50);
})();
