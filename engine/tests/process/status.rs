//! The status page of a running server: what it says, and how it looks in a browser.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::server::{Server, cluster};

/// Widths of a telephone and of a desktop window.
const WIDTHS: [u32; 2] = [400, 1300];
const HEIGHT: u32 = 2400;

/// What headless Chromium calls the two preferences.
const SCHEMES: [(&str, u32); 2] = [("dark", 0), ("light", 1)];

#[test]
fn the_page_shows_what_the_server_does() {
    let server = Server::start(&["--shards", "2"]);
    for _ in 0..200 {
        assert_eq!(server.address("web"), Some(1));
    }
    assert!(server.ask("nothing", "cluster.local").is_some());
    let scraped = |page: &str| page.contains("<title>ringdns: ready</title>");
    server.until("it is ready", |server| scraped(&server.get("/")));
    let block = format!("cluster.local.:{}", server.dns.port());
    // The rates are of the last samples, one per second.
    server.until("every value is there", |server| {
        let page = server.get("/?still");
        let parts = [
            "HTTP/1.1 200 OK\r\n",
            "content-type: text/html; charset=utf-8\r\n",
            "content-security-policy: default-src 'none'; style-src 'unsafe-inline'",
            "cache-control: no-store\r\n",
            concat!("Version ", env!("CARGO_PKG_VERSION")),
            "<span class=\"pill good\">Ready</span>",
            &format!("<code class=\"chip strong\">{block}</code>"),
            "<span class=\"chip\">kubernetes</span>",
            &format!("<code>{}</code> <span class=\"quiet\">UDP and TCP</span>", server.dns),
            "<h3>Shard 0",
            "<h3>Shard 1",
            "<code class=\"chip strong\">cluster.local.</code>",
            "<span class=\"pill good\">up to date</span>",
            "<dt>kubernetes</dt>",
            "<dt>NXDOMAIN</dt>",
            "the server has started",
            "</title></rect>", // of a bar: responses were timed in the last minute
        ];
        let answers: u64 = page
            .split("responses since the start: ")
            .filter_map(|text| text.split('<').next()?.replace(',', "").parse::<u64>().ok())
            .sum();
        let is_complete = answers >= 201 && parts.iter().all(|part| page.contains(part));
        if !is_complete {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        is_complete
    });
    let page = server.get("/");
    assert!(page.contains("http-equiv=\"refresh\" content=\"5\""), "{page}");
    assert!(!server.get("/?still").contains("http-equiv=\"refresh\""));
    for outside in ["<script", "<img", "<link", "src=", "url(", "@import", "http://", "https://"] {
        assert!(!page.contains(outside), "{outside}: {page}");
    }
}

#[test]
fn a_failed_reload_is_a_problem_and_then_a_solved_one() {
    let server = Server::start(&[]);
    let good = fs::read_to_string(server.path("Corefile")).unwrap();
    fs::write(server.path("Corefile"), good.replace("errors", "erorrs<script>")).unwrap();
    server.until("the page says so", |server| {
        let page = server.get("/");
        assert!(!page.contains("<script"), "everything is escaped: {page}");
        page.contains("class=\"problems\"") && page.contains("the last Corefile is still served")
    });
    fs::write(server.path("Corefile"), good).unwrap();
    server.until("it is over", |server| {
        let page = server.get("/");
        !page.contains("class=\"problems\"") && page.contains("no longer: reload:")
    });
    fs::write(server.path("cluster.yaml"), cluster(&[])).unwrap();
}

/// In a browser nothing is wider than the window, light or dark. `STATUS_PICTURES=FOLDER` keeps
/// the pictures.
#[test]
fn the_page_fits_a_telephone_and_a_desktop() {
    let Ok(version) = Command::new("chromium").arg("--version").output() else {
        eprintln!(
            "!!! SKIPPED: Chromium is missing, so nobody has looked at the status page: `apt-get \
             install chromium`"
        );
        return;
    };
    assert!(version.status.success(), "{version:?}");
    let server = Server::start(&[]);
    let kept = std::env::var_os("STATUS_PICTURES");
    let folder = kept.map_or_else(|| server.path(""), |folder| folder.into());
    let address = format!("http://{}/?still", server.http);
    for width in WIDTHS {
        for (scheme, preference) in SCHEMES {
            let picture = folder.join(format!("status-{width}-{scheme}.png"));
            browse(&server, width, preference, &address, &picture);
            let bytes = fs::read(&picture).expect("a picture");
            // The header of a PNG: its width and height at 16 and 20.
            let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!((number(16), number(20)), (width, HEIGHT));
            assert!(bytes.len() > 20_000, "an empty page is smaller: {} bytes", bytes.len());
        }
        let wrapped = server.path("wrapper.html");
        fs::write(&wrapped, framed(&server.get("/?still"), width)).unwrap();
        let widths = dump(&server, &format!("file://{}", wrapped.display()));
        assert!(
            widths.contains(&format!("data-overflow=\"0\" data-width=\"{width}\"")),
            "{widths}"
        );
    }
}

/// A page with the status page in a frame of this width, and a script that writes down how much
/// wider than the frame it is. (A window of Chromium is at least 500 wide.)
fn framed(response: &str, width: u32) -> String {
    let (_, page) = response.split_once("\r\n\r\n").expect("a body");
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    format!(
        "<html><body><iframe width=\"{width}\" height=\"900\" frameborder=\"0\" \
         srcdoc=\"{page}\"></iframe><script>onload = () => {{\
         const page = document.querySelector('iframe').contentDocument.documentElement;\
         document.documentElement.dataset.overflow = page.scrollWidth - page.clientWidth;\
         document.documentElement.dataset.width = page.clientWidth;\
         }};</script></body></html>"
    )
}

fn chromium(server: &Server, width: u32) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["60", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu"])
        .args(["--hide-scrollbars", "--no-first-run", "--disable-background-networking"])
        .arg(format!("--window-size={width},{HEIGHT}"))
        .arg(format!("--user-data-dir={}", server.path("chromium").display()));
    command
}

fn browse(server: &Server, width: u32, preference: u32, address: &str, picture: &Path) {
    let output = chromium(server, width)
        .arg(format!("--blink-settings=preferredColorScheme={preference}"))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(address)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The tag `html` of the page after its scripts have run.
fn dump(server: &Server, address: &str) -> String {
    let output = chromium(server, WIDTHS[1]).args(["--dump-dom", address]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let html = String::from_utf8_lossy(&output.stdout);
    html.lines().find(|line| line.contains("<html")).unwrap_or_default().to_owned()
}
