// What an app cannot know in the kernel: whether the page is dark, and whether there is room for panels side by side.
const NARROW = 760; // pixels

function isDark(element) {
  for (let at = element; at; at = at.parentElement) {
    const [r, g, b, alpha = 1] = (getComputedStyle(at).backgroundColor.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    if (alpha > 0.5) return 0.2126 * r + 0.7152 * g + 0.0722 * b < 128;
  }
  return false;
}

function render({ model, el }) {
  const tell = () => {
    const width = el.getBoundingClientRect().width;
    if (!width) return; // in a tab that is out of sight
    model.set({ dark: isDark(el), narrow: width < NARROW });
    model.save_changes();
  };
  let timer;
  const tellSoon = () => {
    clearTimeout(timer);
    timer = setTimeout(tell, 300); // the style sheet of a theme comes after its name
  };
  const size = new ResizeObserver(tellSoon);
  const theme = new MutationObserver(tellSoon);
  size.observe(el);
  theme.observe(document.body, { attributes: true });
  return () => {
    clearTimeout(timer);
    size.disconnect();
    theme.disconnect();
  };
}

export default { render };
