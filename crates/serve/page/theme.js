// Before anything is drawn: the theme that was chosen, if one was.
(() => {
  try {
    const theme = localStorage.getItem("coder.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // A browser that keeps nothing shows the system's.
  }
})();
