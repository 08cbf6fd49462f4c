//! rampage.toml(5), the manual page of the settings file, made from the descriptions of the fields.

use roff::{Inline, Roff, bold, roman};

use super::DEFAULT_PATH;
use super::shape::{self, Choice, Key, Shape};
use super::show::literal;

/// The page, in roff.
pub fn manual() -> String {
    let version = format!("rampage {}", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    page.control("TH", ["rampage.toml", "5", "", version.as_str(), ""]);
    page.control("SH", ["NAME"]);
    page.text([roman("rampage.toml - settings of rampage serve")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        bold("rampage serve"),
        roman(" reads its settings from "),
        bold(DEFAULT_PATH),
        roman(
            ", or the file that --config names. It is TOML. Every key may be left out, and so may the \
             whole file. Unknown keys and values out of bounds are errors; ",
        ),
        bold("rampage config check"),
        roman(" tells all of them with their lines, "),
        bold("rampage config show"),
        roman(" what is in force and where it comes from. "),
        bold("systemctl reload rampage"),
        roman(" applies a changed file; one with errors leaves the old settings in force."),
    ]);
    page.control("PP", []);
    page.text([roman(
        "Sizes are powers of 1024: \"512KiB\", \"64MiB\", \"2GiB\". Times are \"500ms\", \"30s\", \
         \"10m\", \"2h\", \"7d\". Both are written in quotes.",
    )]);
    tables(shape::root(), &mut page);
    page.control("SH", ["EXAMPLE"]);
    page.control("nf", []);
    page.text([roman(
        "[findings]\nhorizon = \"5m\"\n\n[[pool]]\nname = \"batch*\"\nignore = [\"memory_limit\"]\n\n\
         [[alerts.webhook]]\nname = \"ops\"\nurl = \"https://ops.example.org/rampage\"",
    )]);
    page.control("fi", []);
    page.control("SH", ["FILES"]);
    page.control("TP", []);
    page.text([bold(DEFAULT_PATH)]);
    page.text([roman("Read when no other file is named.")]);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("rampage(1), rampage-serve(1), rampage-config(1), rampage-incidents(1)")]);
    page.render()
}

fn tables(keys: &'static [Key], page: &mut Roff) {
    for key in keys {
        let (header, inner) = match &key.shape {
            Shape::Table(inner) => (format!("[{}]", key.path), inner),
            Shape::Tables { keys, .. } => (format!("[[{}]]", key.path), keys),
            _ => continue,
        };
        page.control("SH", [header.as_str()]);
        page.text([roman(key.sentences())]);
        for key in inner {
            one(key, page);
        }
        tables(inner, page);
    }
}

fn one(key: &Key, page: &mut Roff) {
    let choices = match &key.shape {
        Shape::Table(_) | Shape::Tables { .. } => return,
        Shape::Choice(choices) | Shape::Texts { choices, .. } => &choices[..],
        _ => &[],
    };
    page.control("TP", []);
    page.text([bold(key.name), roman(format!(" = {}", literal(&key.value())))]);
    let kind = match &key.default {
        Some(_) => "",
        None if key.is_required => " Must be given; the value here is an example.",
        None => " Not set by default; the value here is an example.",
    };
    page.text([roman(format!("{}{kind}", key.sentences()))]);
    let described = choices.iter().filter(|choice| !choice.docs.is_empty());
    for Choice { word, docs } in described {
        let text: [Inline; 2] = [bold(word.as_str()), roman(format!(": {docs}"))];
        page.control("RS", []);
        page.text(text);
        page.control("RE", []);
    }
}
