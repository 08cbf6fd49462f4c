//! `rampage config` as a user runs it, and the manual page of the settings file.

mod binary;

use std::fs;
use std::path::PathBuf;

use binary::{rampage, run};
use serde_json::Value;

/// A settings file in a folder of its own.
struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let made = tempfile::tempdir().and_then(|folder| {
        let path = folder.path().join("rampage.toml");
        fs::write(&path, text)?;
        Ok(File { _folder: folder, path })
    });
    made.unwrap_or_else(|error| panic!("no settings file: {error}"))
}

fn config(action: &str, file: &File, more: &[&str]) -> (i32, String, String) {
    run(rampage().args(["config", action]).arg(&file.path).args(more))
}

#[test]
fn a_good_file_is_one_line() {
    let good = file("[watch]\nphp = true\n[[pool]]\nname = \"www*\"\nhorizon = \"2m\"\n");
    let (code, stdout, stderr) = config("check", &good, &[]);
    let expected = format!("{}: 3 settings, no problem\n", good.path.display());
    assert_eq!((code, stdout, stderr.as_str()), (0, expected, ""));
    let (code, stdout, _) = config("check", &good, &["--json"]);
    let outcome: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &outcome["settings"]), (0, &Value::from(3)));
}

#[test]
fn every_problem_is_a_line_with_its_place() {
    let bad = file("[watch]\nstepp = \"1M\"\n\n[recorder]\nmax_size = \"64MB\"\nsync = 2s\n");
    let (code, stdout, stderr) = config("check", &bad, &[]);
    let path = bad.path.display();
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(
        stderr,
        format!(
            "{path}:2: watch.stepp: there is no such key; did you mean `step`?\n\
             {path}:5: recorder.max_size: sizes are powers of 1024: write \"64MiB\"\n\
             {path}:6: texts, sizes and times need quotes: write sync = \"2s\"\n"
        )
    );
    let (code, stdout, _) = config("check", &bad, &["--json"]);
    let outcome: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, outcome["problems"].as_array().unwrap().len()), (2, 3));
    assert_eq!(outcome["problems"][1]["line"], 5);
    assert_eq!(outcome["problems"][1]["key"], "recorder.max_size");
    let (code, stdout, shown) = config("show", &bad, &[]);
    assert_eq!((code, stdout.as_str(), shown), (2, "", stderr));
}

#[test]
fn a_warning_is_no_failure() {
    let odd = file("[watch]\ncgroup = \"/no/such/\\u202e\"\n");
    let (code, stdout, stderr) = config("check", &odd, &[]);
    assert_eq!(code, 0);
    assert!(stdout.ends_with(": 1 setting, 1 warning\n"), "{stdout}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("rampage: warning: ") && !stderr.contains('\u{202e}'), "{stderr}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    for path in ["/nonexistent/rampage.toml", "/", "/dev/zero"] {
        for action in ["check", "show"] {
            let (code, stdout, stderr) = run(rampage().args(["config", action, path]));
            assert_eq!((code, stdout.as_str(), stderr.lines().count()), (2, "", 1), "{stderr}");
            assert!(stderr.starts_with("rampage: ") && stderr.contains(path), "{stderr}");
        }
    }
}

#[test]
fn what_is_in_force_has_its_origin_and_keeps_secrets() {
    let some = file(
        "[findings]\nhorizon = \"5m\"\n[[alerts.webhook]]\nname = \"ops\"\n\
         url = \"https://hooks.example.org/T0/s3cr3t\"\nheaders = { Authorization = \"s3cr3t\" }\n",
    );
    let (code, shown, stderr) = config("show", &some, &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let line = |begin: &str| shown.lines().find(|line| line.starts_with(begin)).unwrap().to_owned();
    let origin = format!("# {}:2", some.path.display());
    assert!(line("horizon = \"5m\"").ends_with(&origin), "{shown}");
    assert!(line("interval = \"1s\"").ends_with("# default"), "{shown}");
    assert!(!shown.contains("s3cr3t"), "{shown}");
    assert_eq!(config("check", &file(&shown.replace("/…", "").replace("…", "x")), &[]).0, 0);
    assert_eq!(config("check", &file(&shown), &[]).0, 2, "what is left out is no value");
    let (code, json, _) = config("show", &some, &["--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["findings.horizon"]["value"]), (0, &Value::from("5m")));
    let origin = format!("{}:4", some.path.display());
    assert_eq!(json["alerts.webhook[0].name"]["origin"], origin);
    assert_eq!(json["watch.interval"]["origin"], "default");
    assert!(!json.to_string().contains("s3cr3t"));
}

#[test]
fn the_sample_is_right_and_page_and_schema_describe_it() {
    let (code, sample, _) = run(rampage().args(["config", "sample"]));
    assert_eq!(code, 0);
    let (code, stdout, _) = config("check", &file(&sample), &[]);
    assert_eq!(code, 0);
    assert!(stdout.ends_with(": 0 settings, no problem\n"), "{stdout}");
    let (code, schema, _) = run(rampage().args(["config", "schema"]));
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!((code, &schema["additionalProperties"]), (0, &Value::from(false)));
    assert!(schema["properties"]["alerts"].is_object());
    let (code, page, _) = run(rampage().args(["man", "rampage.toml"]));
    assert_eq!(code, 0);
    assert!(page.contains(".TH rampage.toml 5") && page.contains("[[alerts.webhook]]"), "{page}");
}

#[test]
fn a_reader_that_goes_away_is_a_success() {
    for action in ["sample", "schema"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, _, stderr) = run(rampage().args(["config", action]).stdout(writer));
        assert_eq!((code, stderr.as_str()), (0, ""), "{action}");
    }
}
