//! The file of a flame graph: written beside its name and renamed, so that nobody reads half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use inferno::flamegraph::{self, Options, TextTruncateDirection};

use crate::cli::{FlameFile, FlameFormat};

/// What stands above the flames.
#[derive(Debug)]
pub struct Heading {
    /// What is shown.
    pub title: String,
    /// What is to be known of it.
    pub subtitle: String,
}

/// A file that has its name only once it is whole.
#[derive(Debug)]
pub struct Output {
    file: File,
    format: FlameFormat,
    path: PathBuf,
    draft: Option<PathBuf>,
}

impl Output {
    /// Makes the draft, readable by its owner only as traces are: URIs can hold secrets.
    pub fn create(target: &FlameFile) -> io::Result<Self> {
        let path = target.path.clone();
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let draft = path.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        Ok(Self { file, format: target.format, path, draft: Some(draft) })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes stacks, and puts the file in its place.
    pub fn finish(mut self, heading: &Heading, stacks: &[String]) -> io::Result<()> {
        let mut out = BufWriter::new(&self.file);
        match self.format {
            FlameFormat::Folded => {
                stacks.iter().try_for_each(|stack| writeln!(out, "{stack}"))?;
            }
            FlameFormat::Svg => draw(heading, stacks, &mut out)?,
        }
        out.flush()?;
        drop(out);
        if let Some(draft) = &self.draft {
            fs::rename(draft, &self.path)?;
        }
        self.draft = None;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            let _ = fs::remove_file(draft);
        }
    }
}

fn draw(heading: &Heading, stacks: &[String], out: &mut impl Write) -> io::Result<()> {
    let mut options = Options::default();
    options.title.clone_from(&heading.title);
    options.subtitle = Some(heading.subtitle.clone());
    "bytes grown".clone_into(&mut options.count_name);
    "PHP:".clone_into(&mut options.name_type);
    // The same name has the same colour in each graph.
    options.hash = true;
    // The function is worth more than the line.
    options.text_truncate_direction = TextTruncateDirection::Right;
    flamegraph::from_lines(&mut options, stacks.iter().map(String::as_str), out)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Stacks as a drawing.
    pub fn drawn(stacks: &[String]) -> String {
        let mut out = Vec::new();
        draw(&heading(), stacks, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn target(folder: &Path, name: &str, format: FlameFormat) -> FlameFile {
        FlameFile { path: folder.join(name), format }
    }

    fn heading() -> Heading {
        Heading { title: "bytes grown".to_owned(), subtitle: "12 looks".to_owned() }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path(), "a.folded", FlameFormat::Folded);
        fs::write(&target.path, "old").unwrap();
        let output = Output::create(&target).unwrap();
        assert_eq!(fs::read_to_string(&target.path).unwrap(), "old");
        assert_eq!(names(folder.path()).len(), 2);
        output.finish(&heading(), &["a;b 12".to_owned(), "c 3".to_owned()]).unwrap();
        assert_eq!(names(folder.path()), ["a.folded"]);
        assert_eq!(fs::read_to_string(&target.path).unwrap(), "a;b 12\nc 3\n");
    }

    #[test]
    fn nothing_is_left_of_a_file_that_was_given_up() {
        let folder = tempfile::tempdir().unwrap();
        drop(Output::create(&target(folder.path(), "a.svg", FlameFormat::Svg)).unwrap());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_cannot_be_written_fails_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let kind =
            |at: &Path| Output::create(&target(at, "a.svg", FlameFormat::Svg)).unwrap_err().kind();
        assert_eq!(kind(&gone), io::ErrorKind::NotFound);
        fs::create_dir_all(gone.join("a.svg")).unwrap();
        assert_eq!(kind(&gone), io::ErrorKind::IsADirectory);
    }
}
