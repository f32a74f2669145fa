// One of the two parts at a time, by mouse, by arrow keys, or by the address: try.html#drawn.
const tabs = [...document.querySelectorAll("[role=tab]")];
const panel = tab => at(tab.getAttribute("aria-controls"));

function choose(chosen) {
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", tab === chosen);
    tab.tabIndex = tab === chosen ? 0 : -1;
    panel(tab).hidden = tab !== chosen;
  }
}

tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", ({key}) => {
    const next = {ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1}[key];
    if (next === undefined) return;
    const chosen = tabs[(next + tabs.length) % tabs.length];
    choose(chosen);
    chosen.focus();
  });
});

const asked = () => choose(tabs.find(tab => "#" + panel(tab).id === location.hash) || tabs[0]);
window.addEventListener("hashchange", asked);
asked();
