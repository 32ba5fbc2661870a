// Puts the parts of the page in their places as they come, and the report in place of the page once the run is over.
'use strict';
const source = new EventSource('events');
const status = document.getElementById('status');
source.addEventListener('parts', event => {
  for (const [id, html] of Object.entries(JSON.parse(event.data))) {
    const place = document.getElementById(id);
    if (place && place.innerHTML !== html) place.innerHTML = html;
  }
});
source.addEventListener('report', event => {
  source.close();
  const at = window.scrollY;
  document.open();
  document.write(JSON.parse(event.data));
  document.close();
  window.scrollTo(0, at);
});
source.addEventListener('over', () => {
  source.close();
  status.textContent = 'The run is over, without a report.';
});
source.onerror = () => {
  source.close();
  status.textContent = 'The run has ended or was stopped: what this page shows is its last state.';
};
