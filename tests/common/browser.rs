//! A real browser, without a window, that reports the look of a page.

use std::fs::{File, read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The longest time for a browser: one that takes longer is stopped, and the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A script that examines a page from within: sizes, words that are cut off, overlap or are hard to read, the resources
/// that were loaded, and errors.
const PROBE: &str = r#"<script>
const channels = colour => colour.match(/[\d.]+/g).map(Number);
// Relative luminance and contrast, WCAG 2.2.
const luminance = colour => channels(colour).slice(0, 3).map(one => one / 255)
  .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
  .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
const contrast = (a, b) => {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
};
const paints = colour => colour.startsWith('rgb') && channels(colour)[3] !== 0;
// What lies behind a word: the last bar that its middle is on, or the first ancestor that has a ground.
const behind = word => {
  const box = word.getBoundingClientRect();
  const [x, y] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  const bars = [...(word.closest('svg')?.querySelectorAll('rect') ?? [])].filter(bar => {
    const ground = bar.getBoundingClientRect();
    return ground.left <= x && x <= ground.right && ground.top <= y && y <= ground.bottom
      && (bar.compareDocumentPosition(word) & Node.DOCUMENT_POSITION_FOLLOWING) && paints(getComputedStyle(bar).fill);
  });
  if (bars.length) return getComputedStyle(bars.at(-1)).fill;
  for (let one = word; one; one = one.parentElement) {
    const ground = getComputedStyle(one).backgroundColor;
    if (paints(ground)) return ground;
  }
  return 'rgb(255, 255, 255)';
};
const errors = [];
addEventListener('error', event => errors.push(String(event.message || event.target.src)), true);
addEventListener('securitypolicyviolation', event => errors.push('blocked: ' + event.blockedURI));
addEventListener('load', () => setTimeout(() => {
  document.querySelectorAll('details').forEach(one => { one.open = true; });
  const seen = {blank: [], cut_off: [], overlapping: [], faint: [], errors};
  seen.width = innerWidth;
  seen.needs = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
  seen.loaded = performance.getEntriesByType('resource').map(entry => entry.name);
  const figures = [...document.querySelectorAll('svg[role=img]')].filter(one => one.getClientRects().length);
  seen.figures = figures.length;
  for (const figure of figures) {
    const frame = figure.getBoundingClientRect();
    const name = figure.querySelector('title')?.textContent;
    const drawn = figure.querySelectorAll('polyline, rect, line').length;
    if (frame.width < 200 || frame.height < 80 || drawn < 5) seen.blank.push(name);
    const words = [...figure.querySelectorAll('text')].map(one => [one.textContent.trim(), one.getBoundingClientRect()]);
    for (const [text, box] of words) {
      const within = box.left > frame.left - 1 && box.right < frame.right + 1 && box.top > frame.top - 1 && box.bottom < frame.bottom + 1;
      if (!within) seen.cut_off.push(name + ': ' + text);
    }
    words.forEach(([text, a], at) => words.slice(at + 1).forEach(([other, b]) => {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const along = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && along > 3) seen.overlapping.push(name + ': ' + text + ' / ' + other);
    }));
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const word = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || word.closest('script, style, title, desc') || !word.getClientRects().length) continue;
    const ink = getComputedStyle(word)[word instanceof SVGElement ? 'fill' : 'color'];
    if (contrast(ink, behind(word)) < 3) seen.faint.push(word.textContent + ': ' + ink + ' on ' + behind(word));
  }
  seen.ground = luminance(getComputedStyle(document.body).backgroundColor) < 0.2 ? 'dark' : 'light';
  parent.postMessage(JSON.stringify(seen), '*');
}, 50));
</script>"#;

/// Chromium, under any of its names.
pub struct Browser {
    program: PathBuf,
    folder: TempDir,
}

impl Browser {
    /// Returns the browser that is installed, if one is.
    pub fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let names = ["chromium", "google-chrome", "chromium-browser"];
        let mut programs =
            names.iter().flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
        Some(Self { program: programs.find(|program| program.is_file())?, folder: tempfile::tempdir().unwrap() })
    }

    /// Returns the look of a page in a window of this width, `light` or `dark`. The page is framed, since a window has
    /// a least width of its own.
    pub fn look(&self, page: &str, width: u32, ground: &str) -> Value {
        // A browser without a window prefers light.
        let page = if ground == "dark" { &page.replace("(prefers-color-scheme:dark)", "all") } else { page };
        let policy = "style-src 'unsafe-inline'";
        assert!(page.contains(policy), "a page has a policy");
        let page = page.replace(policy, &format!("script-src 'unsafe-inline'; {policy}"));
        let page = page.replace("<main>", &format!("{PROBE}<main>"));
        let framed = page.replace('&', "&amp;").replace('"', "&quot;");
        let outer = format!(
            "<!DOCTYPE html><body><script>addEventListener('message', event => {{ document.body.dataset.seen = \
             encodeURIComponent(event.data); }});</script>\
             <iframe srcdoc=\"{framed}\" style=\"border:0;width:{width}px;height:900px\"></iframe>"
        );
        let file = self.folder.path().join("page.html");
        write(&file, outer).unwrap();
        let dom = self.dump(&file);
        let seen = dom.split("data-seen=\"").nth(1).unwrap_or_else(|| panic!("the probe reported nothing: {dom}"));
        serde_json::from_str(&decoded(seen.split('"').next().unwrap())).unwrap()
    }

    /// Returns the page as it is once its scripts have run.
    fn dump(&self, file: &Path) -> String {
        let (out, err) = (self.folder.path().join("out"), self.folder.path().join("err"));
        let mut child = Command::new(&self.program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--virtual-time-budget=5000", "--window-size=1400,1000"])
            .arg(format!("--user-data-dir={}", self.folder.path().join("profile").display()))
            .arg("--dump-dom")
            .arg(format!("file://{}", file.display()))
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} did not end within {PATIENCE:?}: {}", self.program.display(), read_to_string(&err).unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        read_to_string(out).unwrap()
    }
}

/// Undoes `encodeURIComponent`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}
