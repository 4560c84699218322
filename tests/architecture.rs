//! The walls of `docs/architecture.md`, proven: who imports whom, who touches the world, what must not be in the repository.
//!
//! Sources are read as text: comments, literals and what stands under `#[cfg(test)]` are blanked, `use` trees are spread into full paths. That is
//! exact enough, because rustfmt and clippy keep the sources in one shape.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Modules of the root package and their layer: a file imports lower numbers and its own module. Equal numbers are siblings that do not see each other,
/// but for layer 1 (bounds and seams, which decide nothing).
const LAYERS: &[(&str, u8)] = &[
    ("limits", 1),
    ("env", 1),
    ("config", 1),
    ("metrics", 1),
    ("wire", 2),
    ("security", 3),
    ("client", 4),
    ("metadata", 5),
    ("partition", 6),
    ("coordinator", 7),
    ("broker", 8),
    ("api", 9),
    ("admin", 9),
    ("server", 10),
    ("cli", 11),
];

/// What `lib.rs` re-exports at the root, and the module it stands for.
const REEXPORTS: &[(&str, &str)] = &[("Config", "config"), ("Env", "env"), ("Node", "server")];

/// The world, by path prefix, and the only places (files or folders, from the root of the repository) that may touch it.
const WORLD: &[(&str, &[&str], &[&str])] = &[
    ("clocks", &["std::time::Instant", "std::time::SystemTime", "chrono", "time::OffsetDateTime"], &["src/env.rs"]),
    (
        "files",
        &["std::fs", "tokio::fs", "std::os::unix::fs", "millstream_storage::OsDisk", "crate::OsDisk"],
        &["src/env.rs", "src/cli/", "storage/src/disk.rs", "storage/src/lib.rs"],
    ),
    (
        "sockets",
        &[
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::os::unix::net",
            "tokio::net",
            "socket2",
        ],
        &["src/env.rs", "src/server/"],
    ),
    (
        "tasks and threads",
        &[
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_blocking",
            "tokio::task::block_in_place",
            "tokio::task::LocalSet",
            "tokio::task::JoinSet",
            "tokio::runtime",
        ],
        &["src/env.rs", "src/cli/", "src/metadata/raft/"],
    ),
    // The storage crate has no tasks: a flush round that syncs several files at once does it on threads of its own.
    (
        "threads",
        &["std::thread::spawn", "std::thread::Builder", "std::thread::scope"],
        &["src/env.rs", "storage/src/directory.rs"],
    ),
    // A bench is due at times that the runtime's timers are too coarse for.
    ("sleep", &["std::thread::sleep"], &["src/cli/bench/pace.rs"]),
    ("randomness", &["rand", "fastrand", "getrandom", "uuid::Uuid::new_v4"], &["src/env.rs"]),
    ("consensus", &["openraft"], &["src/metadata/raft/"]),
    ("HTTP", &["axum", "tower", "tower_http", "hyper"], &["src/admin/", "src/server/"]),
    ("arguments and printing tables", &["clap", "indicatif", "comfy_table", "std::env::args"], &["src/cli/"]),
    ("async", &["tokio", "futures"], &["src/"]),
    ("messages", &["kafka_protocol", "serde", "serde_json"], &["src/"]),
    (
        "unbounded queues",
        &[
            "tokio::sync::mpsc::unbounded_channel",
            "tokio::sync::mpsc::UnboundedSender",
            "tokio::sync::mpsc::UnboundedReceiver",
            "std::sync::mpsc::channel",
            "futures::channel::mpsc::unbounded",
            "crossbeam_channel::unbounded",
            "flume::unbounded",
            "async_channel::unbounded",
        ],
        &[],
    ),
];

/// The only files with `unsafe`.
const UNSAFE: &[&str] = &["storage/src/region.rs", "storage/src/sigbus.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn name_of(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

/// Every file below `dir`, sorted; hidden directories and build output are left out.
fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut entries: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let skipped =
            name == "target" || name == "node_modules" || (name.starts_with('.') && name != ".ci" && name != ".cargo");
        if skipped {
            continue;
        }
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

/// The repository's own files: those at its top (build output and data that a broker left there are folders), and all in its folders.
fn kept_files() -> Vec<PathBuf> {
    let top = fs::read_dir(root()).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<PathBuf> = top.filter(|p| p.is_file() && !p.ends_with(".git")).collect();
    for folder in [".cargo", ".ci", "benches", "docs", "examples", "src", "storage", "tests"] {
        let before = all.len();
        files(&root().join(folder), &mut all);
        assert!(all.len() > before, "{folder} holds no file");
    }
    all
}

/// The product's sources without tests: (name from the root, blanked text).
fn sources() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    files(&root().join("src"), &mut paths);
    files(&root().join("storage/src"), &mut paths);
    let rust: Vec<(String, String)> = paths
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .map(|p| (name_of(p), blank(&fs::read_to_string(p).unwrap())))
        .collect();
    assert!(rust.len() > 20, "only {} sources found", rust.len());
    // A file that its parent declares under cfg(test) (`x_tests.rs` by a path attribute), and the simulated disk, are tests.
    let tests: BTreeSet<String> = rust.iter().flat_map(|(name, text)| test_modules(name, text)).collect();
    let skipped = |name: &str| {
        name == "storage/src/sim.rs"
            || name.ends_with("_tests.rs")
            || tests.iter().any(|t| name == *t || name.starts_with(&t.replace(".rs", "/")))
    };
    rust.into_iter().filter(|(name, _)| !skipped(name)).map(|(name, text)| (name, without_tests(&text))).collect()
}

/// Blanks comments and the insides of string and char literals; keeps every line break.
fn blank(text: &str) -> String {
    let b: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let keep = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut i = 0;
    while i < b.len() {
        let next = b.get(i + 1).copied().unwrap_or(' ');
        let word_before = i > 0 && (b[i - 1].is_alphanumeric() || b[i - 1] == '_');
        if b[i] == '/' && next == '/' {
            while i < b.len() && b[i] != '\n' {
                i += 1;
            }
        } else if b[i] == '/' && next == '*' {
            let mut depth = 0;
            while i < b.len() {
                if b[i] == '/' && b.get(i + 1) == Some(&'*') {
                    depth += 1;
                    i += 2;
                } else if b[i] == '*' && b.get(i + 1) == Some(&'/') {
                    depth -= 1;
                    i += 2;
                    if depth == 0 {
                        break;
                    }
                } else {
                    out.push(keep(b[i]));
                    i += 1;
                }
            }
        } else if b[i] == '"' {
            out.push('"');
            i += 1;
            while i < b.len() && b[i] != '"' {
                if b[i] == '\\' {
                    out.push(' ');
                    i += 1;
                }
                out.push(keep(b[i]));
                i += 1;
            }
            out.push('"');
            i += 1;
        } else if (b[i] == 'r' && !word_before || b[i] == 'r' && i > 0 && b[i - 1] == 'b')
            && (next == '"' || next == '#')
            && raw_hashes(&b, i + 1).is_some()
        {
            let hashes = raw_hashes(&b, i + 1).unwrap();
            i += 1 + hashes + 1;
            out.push('"');
            while i < b.len()
                && !(b[i] == '"' && b[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes)
            {
                out.push(keep(b[i]));
                i += 1;
            }
            out.push('"');
            i += 1 + hashes;
        } else if b[i] == '\'' && (next == '\\' || b.get(i + 2) == Some(&'\'')) {
            // A char literal; a lifetime has no closing quote there.
            out.push('\'');
            i += if next == '\\' { 3 } else { 2 };
            while i < b.len() && b[i] != '\'' {
                i += 1;
            }
            out.push('\'');
            i += 1;
        } else {
            out.push(b[i]);
            i += 1;
        }
    }
    out
}

/// Number of `#` between here and an opening quote.
fn raw_hashes(b: &[char], from: usize) -> Option<usize> {
    let hashes = b[from..].iter().take_while(|c| **c == '#').count();
    (b.get(from + hashes) == Some(&'"')).then_some(hashes)
}

/// Blanks each item under `#[cfg(test)]` or `#[test]`, to its closing brace or semicolon.
fn without_tests(text: &str) -> String {
    let mut out: Vec<char> = text.chars().collect();
    let text: Vec<char> = out.clone();
    for mark in ["#[cfg(test)]", "#[cfg(any(test", "#[cfg(all(test"] {
        let mark: Vec<char> = mark.chars().collect();
        let mut i = 0;
        while i + mark.len() <= text.len() {
            if text[i..i + mark.len()] != mark[..] {
                i += 1;
                continue;
            }
            let start = i;
            let mut depth = 0i32;
            let mut end = text.len();
            for (j, c) in text.iter().enumerate().skip(i + mark.len()) {
                match c {
                    '{' => depth += 1,
                    '}' => {
                        depth -= 1;
                        if depth <= 0 {
                            end = j + 1;
                            break;
                        }
                    }
                    ';' if depth == 0 => {
                        end = j + 1;
                        break;
                    }
                    _ => {}
                }
            }
            for c in &mut out[start..end] {
                if *c != '\n' {
                    *c = ' ';
                }
            }
            i = end;
        }
    }
    out.into_iter().collect()
}

/// Files that `name` declares as `#[cfg(test)] mod x;`.
fn test_modules(name: &str, text: &str) -> Vec<String> {
    let own = module_of(name).join("/");
    let base = if name.starts_with("storage/") { "storage/src" } else { "src" };
    let dir = if own.is_empty() { base.to_string() } else { format!("{base}/{own}") };
    text.split("#[cfg(test)]")
        .skip(1)
        .filter_map(|rest| {
            let rest =
                rest.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ").strip_prefix("mod ")?;
            let end = rest.find([';', '{'])?;
            (rest.as_bytes()[end] == b';').then(|| format!("{dir}/{}.rs", rest[..end].trim()))
        })
        .collect()
}

/// `src/partition/leader.rs` → `[partition, leader]`, `src/api/mod.rs` → `[api]`.
fn module_of(name: &str) -> Vec<String> {
    let inner = name.strip_prefix("storage/").unwrap_or(name).strip_prefix("src/").unwrap_or(name);
    let mut parts: Vec<String> = inner.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// Every path a source names: `use` trees spread out, and inline paths (through the names that the file imported). With their lines.
fn paths(name: &str, text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut imported: Vec<(String, String)> = Vec::new();
    let mut rest = String::with_capacity(text.len());
    let mut line = 1;
    let mut at = 0;
    // `use` items first; they are cut out of what is scanned for inline paths.
    while at < text.len() {
        let here = &text[at..];
        let boundary = at == 0 || !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if boundary && here.starts_with("use ") {
            let end = here.find(';').map_or(here.len(), |e| e + 1);
            for full in spread(here[4..end].trim_end_matches(';')) {
                let full = resolve(name, &full);
                let bare = full.split(" as ").next().unwrap_or_default().to_string();
                let alias = full.rsplit([' ', ':']).next().unwrap_or_default().to_string();
                imported.push((alias, bare.clone()));
                found.push((line, bare));
            }
            rest.extend(here[..end].chars().filter(|c| *c == '\n'));
            line += here[..end].matches('\n').count();
            at += end;
        } else {
            let c = here.chars().next().unwrap();
            line += usize::from(c == '\n');
            rest.push(c);
            at += c.len_utf8();
        }
    }
    for (number, text) in rest.lines().enumerate() {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for word in text.split(|c| !is_path(c)) {
            let word = word.trim_matches(':');
            if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let head = word.split("::").next().unwrap();
            let full = match imported.iter().find(|(alias, _)| alias == head) {
                Some((_, full)) => format!("{full}{}", &word[head.len()..]),
                None if word.contains("::") => word.to_string(),
                None => continue,
            };
            found.push((number + 1, resolve(name, &full)));
        }
    }
    found
}

/// `a::{b, c::{self, d as e}}` → `a::b`, `a::c`, `a::c::d as e`.
fn spread(tree: &str) -> Vec<String> {
    let tree = tree.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(open) = tree.find('{') else {
        return vec![tree.trim().trim_end_matches("::self").to_string()];
    };
    let prefix = tree[..open].trim();
    let inner = tree[open + 1..].trim_end().strip_suffix('}').unwrap_or("");
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().map(str::trim).filter(|p| !p.is_empty());
    parts.flat_map(|p| spread(&format!("{prefix}{p}"))).collect()
}

/// `self::` and `super::` turned into `crate::` paths.
fn resolve(name: &str, path: &str) -> String {
    let mut module = module_of(name);
    let mut parts: Vec<&str> = path.split("::").collect();
    if parts[0] != "self" && parts[0] != "super" {
        return path.trim_start_matches("::").to_string();
    }
    while let Some(first) = parts.first() {
        match *first {
            "self" => {}
            "super" => {
                module.pop();
            }
            _ => break,
        }
        parts.remove(0);
    }
    let mut full = vec!["crate".to_string()];
    full.extend(module);
    full.extend(parts.iter().map(|p| p.to_string()));
    full.join("::")
}

fn under(path: &str, prefix: &str) -> bool {
    path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("::"))
}

fn allowed(name: &str, places: &[&str]) -> bool {
    places.iter().any(|p| name == *p || (p.ends_with('/') && name.starts_with(p)))
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(m, _)| *m == module).map(|(_, l)| *l)
}

fn report(what: &str, found: BTreeSet<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.into_iter().collect::<Vec<_>>().join("\n  "));
}

#[test]
fn a_module_imports_lower_layers_only() {
    let mut wrong = BTreeSet::new();
    for (name, text) in sources() {
        let own = module_of(&name);
        if name.starts_with("storage/") || own.is_empty() {
            continue;
        }
        let own = own[0].as_str();
        let Some(mine) = layer(own) else {
            wrong.insert(format!("{name}: module `{own}` has no layer in LAYERS"));
            continue;
        };
        for (line, path) in paths(&name, &text) {
            let Some(rest) = path.strip_prefix("crate::") else { continue };
            let head = rest.split("::").next().unwrap();
            let head = REEXPORTS.iter().find(|(n, _)| *n == head).map_or(head, |(_, m)| m);
            if head == own {
                continue;
            }
            match layer(head) {
                Some(theirs) if theirs < mine || (theirs == mine && mine == 1) => {}
                Some(theirs) => {
                    wrong.insert(format!(
                        "{name}:{line}: `{own}` (layer {mine}) imports `{head}` (layer {theirs}): {path}"
                    ));
                }
                None => {
                    wrong.insert(format!("{name}:{line}: `{head}` is no module of LAYERS: {path}"));
                }
            }
        }
    }
    report("imports against the layers", wrong);
}

#[test]
fn the_world_is_touched_through_its_seams_only() {
    let mut wrong = BTreeSet::new();
    for (name, text) in sources() {
        for (line, path) in paths(&name, &text) {
            for (what, prefixes, places) in WORLD {
                if prefixes.iter().any(|p| under(&path, p)) && !allowed(&name, places) {
                    wrong.insert(format!("{name}:{line}: {what}: {path}"));
                }
            }
        }
    }
    report("the world outside its seams", wrong);
}

#[test]
fn unsafe_stays_in_the_named_files_and_says_why() {
    let mut wrong = BTreeSet::new();
    for (name, text) in sources() {
        let original = fs::read_to_string(root().join(&name)).unwrap();
        let lines: Vec<&str> = original.lines().collect();
        for (i, code) in text.lines().enumerate() {
            let words: Vec<&str> = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
            if !words.contains(&"unsafe") {
                continue;
            }
            if !UNSAFE.contains(&name.as_str()) {
                wrong.insert(format!("{name}:{}: unsafe", i + 1));
                continue;
            }
            // The comment stands above, with at most attributes, a signature or a neighbouring `unsafe impl` between.
            let above = lines[i.saturating_sub(12)..=i].join("\n").to_lowercase();
            if !above.contains("safety") {
                wrong.insert(format!("{name}:{}: unsafe without a SAFETY comment", i + 1));
            }
        }
    }
    report("unsafe code", wrong);
}

#[test]
fn every_served_api_is_in_the_protocol_page() {
    let page = fs::read_to_string(root().join("docs/protocol.md")).expect("docs/protocol.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|l| l.starts_with('|'))
        .map(|l| l.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let mut wrong = BTreeSet::new();
    for api in millstream::api::APIS {
        let (key, versions) = (api.key.to_string(), format!("{}–{}", api.min, api.max));
        let Some(row) = rows.iter().find(|r| r.len() > 2 && r[0] == key && r[1] == api.name) else {
            wrong.insert(format!("no row `| {key} | {} | {versions} | … |`", api.name));
            continue;
        };
        if row[2] != versions && !(api.min == api.max && row[2] == api.min.to_string()) {
            wrong.insert(format!("{}: served {versions}, the page says {}", api.name, row[2]));
        }
    }
    // The table of APIs is the first of the page; a row too many promises what is not there.
    for row in rows.iter().filter(|r| r.len() > 3 && r[0].parse::<i16>().is_ok()) {
        if !millstream::api::APIS.iter().any(|api| row[0] == api.key.to_string()) {
            wrong.insert(format!("{} is in the page, but not served", row[1]));
        }
    }
    report("docs/protocol.md and the table of APIs differ", wrong);
}

#[test]
fn every_metric_is_in_the_metrics_page() {
    let source = fs::read_to_string(root().join("src/metrics.rs")).unwrap();
    let page = fs::read_to_string(root().join("docs/metrics.md")).expect("docs/metrics.md");
    let names = |text: &str, quote: char| {
        let names = text.split(quote).filter(|n| n.starts_with("millstream_"));
        names.filter(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '_')).map(str::to_string).collect()
    };
    let (declared, told): (BTreeSet<String>, BTreeSet<String>) = (names(&source, '"'), names(&page, '`'));
    assert!(declared.len() > 5, "{declared:?}");
    report("metrics and docs/metrics.md differ", declared.symmetric_difference(&told).cloned().collect());
}

/// Text of the repository must make sense on any machine: no paths of the one it was written on, no hosts but public ones, nothing left open.
#[test]
fn the_repository_names_no_private_places() {
    // Absolute paths that begin so name somebody's machine. Put together here, since this file is looked at too.
    let machine = ["work", "root", "home", "Users"].map(|top| format!("/{top}/"));
    let hosts = [
        "localhost",
        "127.0.0.1",
        "example.com",
        "github.com",
        "kafka.apache.org",
        "cwiki.apache.org",
        "issues.apache.org",
        "maven.apache.org",
        "www.apache.org",
        "www.w3.org",
        "docs.rs",
        "www.rfc-editor.org",
        "keepachangelog.com",
        "semver.org",
        "[::1]",
    ];
    let mut wrong = BTreeSet::new();
    for path in kept_files() {
        let name = name_of(&path);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (i, line) in text.lines().enumerate() {
            for word in &machine {
                if line.contains(word.as_str()) {
                    wrong.insert(format!("{name}:{}: `{word}`", i + 1));
                }
            }
            for rest in line.split("://").skip(1) {
                let host = rest.split(|c: char| !(c.is_alphanumeric() || "-.[]:".contains(c))).next().unwrap();
                let host = if host.starts_with('[') { host } else { host.split(':').next().unwrap() };
                let host = host.trim_end_matches(['.', ',']);
                let reserved = [".example", ".test", ".invalid", ".example.com"].iter().any(|end| host.ends_with(end));
                let number = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified() || ip.is_loopback());
                if host.contains('.') && !hosts.contains(&host) && !reserved && !number {
                    wrong.insert(format!("{name}:{}: host `{host}`", i + 1));
                }
            }
        }
    }
    report("private places", wrong);
}

/// The anchors of a page, as its headings make them: lower case, blanks to hyphens, everything else but letters, digits, `-` and `_` left out.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut code = false;
    let headings = page.lines().filter(|line| {
        code ^= line.starts_with("```");
        !code && line.starts_with('#')
    });
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            text.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
        })
        .collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut wrong = BTreeSet::new();
    for path in kept_files().into_iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let (name, text) = (name_of(&path), fs::read_to_string(&path).unwrap());
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let found = target.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !found {
                wrong.insert(format!("{name}: {link}"));
            }
        }
    }
    report("links to nothing", wrong);
}

#[test]
fn the_reader_of_sources_sees_what_it_should() {
    let text = blank(
        "use crate::{a::b, c::{self, d as e}}; // std::fs\nlet x = \"std::net\"; fs::read('\\'', 'x'); x::<'a>() /* std::fs */",
    );
    assert!(!text.contains("std::"), "{text}");
    let mut spreads = spread("crate::{a::b, c::{self, d as e}, f}");
    spreads.sort();
    assert_eq!(spreads, ["crate::a::b", "crate::c", "crate::c::d as e", "crate::f"]);
    let found = paths(
        "src/partition/leader.rs",
        "use std::{fs, time::{Duration, Instant}};\nuse super::waiters;\nfn f() { fs::read(x); Instant::now(); crate::api::y(); super::super::broker::z() }",
    );
    let found: Vec<&str> = found.iter().map(|(_, p)| p.as_str()).collect();
    for wanted in [
        "std::fs",
        "std::fs::read",
        "std::time::Instant::now",
        "crate::partition::waiters",
        "crate::api::y",
        "crate::broker::z",
    ] {
        assert!(found.contains(&wanted), "{wanted} is not in {found:?}");
    }
    let kept = without_tests("fn a() {}\n#[cfg(test)]\nmod tests { use std::fs; fn b() { {} } }\nfn c() {}");
    assert!(kept.contains("fn a") && kept.contains("fn c") && !kept.contains("fs"), "{kept}");
    assert_eq!(
        test_modules("src/partition/mod.rs", "#[cfg(test)]\npub(crate) mod tests;\n#[cfg(test)] mod x { }"),
        ["src/partition/tests.rs"]
    );
    assert!(under("std::fs::read", "std::fs") && !under("std::fsx", "std::fs"));
    let raw = blank("let a = r#\"std::fs \" x\"#; let b = br\"std::net\"; fn c(d: &'a str) {}");
    assert!(!raw.contains("std::") && raw.contains("&'a str"), "{raw}");
}
