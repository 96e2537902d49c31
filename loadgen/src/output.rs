//! The files that reports are written to. They are opened before the run, so that a path that
//! cannot be written ends the command at once.
//!
//! Invariant: a file keeps its old content until its report is written, and a file that was created
//! here and got no report is removed.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cli::RunFlags;

#[derive(Debug)]
pub enum OutputError {
    NoFolder { path: PathBuf, folder: PathBuf },
    IsFolder { path: PathBuf },
    Same { flags: [&'static str; 2], path: PathBuf },
    Write { path: PathBuf, error: io::Error },
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFolder { path, folder } => {
                let (path, folder) = (path.display(), folder.display());
                write!(
                    f,
                    "cannot write {path}: there is no folder {folder}; create it with \
                     'mkdir -p {folder}', or name another folder"
                )
            }
            Self::IsFolder { path } => {
                write!(f, "cannot write {}: it is a folder; name a file in it", path.display())
            }
            Self::Same { flags: [one, other], path } => write!(
                f,
                "{one} and {other} would both write to {}; name another file for one of them",
                path.display()
            ),
            Self::Write { path, error } => write!(f, "cannot write {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for OutputError {}

/// Where one report goes.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    /// `None`: standard output.
    file: Option<File>,
    /// Created here, and still without its report.
    is_empty: bool,
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.is_empty {
            // Fails only if something else removed it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Output {
    /// `-` is standard output.
    pub fn open(path: &Path) -> Result<Self, OutputError> {
        let path = path.to_owned();
        if path == Path::new("-") {
            return Ok(Self { path: "standard output".into(), file: None, is_empty: false });
        }
        let existed = path.exists();
        // Append mode keeps the old report until there is a new one.
        match OpenOptions::new().append(true).create(true).open(&path) {
            Ok(file) => Ok(Self { path, file: Some(file), is_empty: !existed }),
            Err(error) => Err(Self::why_not(path, error)),
        }
    }

    fn why_not(path: PathBuf, error: io::Error) -> OutputError {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        match folder {
            Some(folder) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => {
                OutputError::NoFolder { folder: folder.to_owned(), path }
            }
            _ if path.is_dir() => OutputError::IsFolder { path },
            _ => OutputError::Write { path, error },
        }
    }

    pub fn write(mut self, text: &str) -> Result<(), OutputError> {
        let written = match &mut self.file {
            None => io::stdout().lock().write_all(text.as_bytes()),
            Some(file) => replace(file, text),
        };
        self.is_empty = false;
        written.map_err(|error| OutputError::Write { path: self.path.clone(), error })
    }

    fn is_stdout(&self) -> bool {
        self.file.is_none()
    }

    /// Device and inode of a regular file; a pipe or terminal may take two reports.
    fn identity(&self) -> Option<(u64, u64)> {
        let metadata = self.file.as_ref()?.metadata().ok()?;
        metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
    }
}

fn replace(file: &mut File, text: &str) -> io::Result<()> {
    // Pipes and devices have no length.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}

/// All reports that the flags ask for.
#[derive(Debug, Default)]
pub struct Outputs {
    pub html: Option<Output>,
    pub json: Option<Output>,
    pub hgrm: Option<Output>,
    pub hlog: Option<Output>,
}

impl Outputs {
    pub fn open(flags: &RunFlags) -> Result<Self, OutputError> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(Output::open).transpose();
        let outputs = Self {
            html: open(&flags.html)?,
            json: open(&flags.json)?,
            hgrm: open(&flags.hgrm)?,
            hlog: open(&flags.hlog)?,
        };
        outputs.check_that_all_differ()?;
        match outputs.on_stdout() {
            // It replaces the table, but this one was asked for.
            Some((flag, output)) if flags.dnsperf => {
                Err(OutputError::Same { flags: ["--dnsperf", flag], path: output.path.clone() })
            }
            Some(_) | None => Ok(outputs),
        }
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &Output)> {
        [
            ("--html", &self.html),
            ("--json", &self.json),
            ("--hgrm", &self.hgrm),
            ("--hlog", &self.hlog),
        ]
        .into_iter()
        .filter_map(|(flag, output)| Some((flag, output.as_ref()?)))
    }

    fn check_that_all_differ(&self) -> Result<(), OutputError> {
        for (at, (other, second)) in self.all().enumerate() {
            let is_same = |first: &Output| {
                (first.is_stdout() && second.is_stdout())
                    || first.identity().is_some_and(|one| second.identity() == Some(one))
            };
            if let Some((one, _)) = self.all().take(at).find(|(_, first)| is_same(first)) {
                return Err(OutputError::Same { flags: [one, other], path: second.path.clone() });
            }
        }
        Ok(())
    }

    /// Whether a report goes to standard output, instead of the table.
    pub fn has_stdout(&self) -> bool {
        self.on_stdout().is_some()
    }

    fn on_stdout(&self) -> Option<(&'static str, &Output)> {
        self.all().find(|(_, output)| output.is_stdout())
    }
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    let fail = |error| OutputError::Write { path: "standard output".into(), error };
    io::stdout().lock().write_all(text.as_bytes()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwritable_path_fails_when_opened() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        fs::write(folder.path().join("file"), "old").unwrap();
        let rows = [
            (
                format!("{root}/no/such/page"),
                format!(
                    "there is no folder {root}/no/such; create it with 'mkdir -p {root}/no/such'"
                ),
            ),
            (format!("{root}"), "it is a folder; name a file in it".to_owned()),
            (format!("{root}/file/page"), "Not a directory".to_owned()),
            (String::new(), "cannot write : ".to_owned()),
        ];
        for (path, part) in rows {
            let error = Output::open(Path::new(&path)).unwrap_err().to_string();
            assert!(error.contains(&part), "{path}: {error}");
        }
    }

    #[test]
    fn a_file_keeps_what_it_held_until_there_is_a_report() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::write(&old, "a longer report than the next").unwrap();
        for path in [&old, &new] {
            drop(Output::open(path).unwrap());
        }
        assert_eq!(fs::read_to_string(&old).unwrap(), "a longer report than the next");
        assert!(!new.exists(), "made for nothing, so removed");
        for path in [&old, &new] {
            Output::open(path).unwrap().write("report").unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), "report");
        }
        Output::open(Path::new("/dev/null")).unwrap().write("report").unwrap();
        let full = Output::open(Path::new("/dev/full")).unwrap().write("report");
        assert!(full.unwrap_err().to_string().contains("cannot write /dev/full: No space left"));
    }
}
