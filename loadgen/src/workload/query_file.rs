//! dnsperf's query files: a name and a type per line; blank lines and lines that begin with `;` or
//! `#` are skipped.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

use domain::base::{Name, Rtype};

use super::{Options, Question, Workload, WorkloadTooLarge};

#[derive(Debug)]
pub enum QueryFileError {
    Read { path: String, error: io::Error },
    Line { path: String, line: usize, text: String, reason: String },
    Empty { path: String },
    TooLarge { path: String },
}

impl fmt::Display for QueryFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(f, "cannot read the query file {path}: {error}"),
            Self::Line { path, line, text, reason } => {
                write!(
                    f,
                    "{path}:{line}: '{text}': {reason}; write a name and a type, like \
                     www.example.com A"
                )
            }
            Self::Empty { path } => write!(
                f,
                "{path} holds no query; give a query file with -d, or a cluster's manifests with \
                 --from"
            ),
            Self::TooLarge { path } => write!(f, "{path}: {WorkloadTooLarge}"),
        }
    }
}

impl std::error::Error for QueryFileError {}

/// Reads a file, or standard input for `-`.
pub fn read(path: &Path, options: Options) -> Result<Workload, QueryFileError> {
    let name = path.display().to_string();
    if path.as_os_str() == "-" {
        return parse(io::stdin().lock(), "standard input", options);
    }
    let file =
        File::open(path).map_err(|error| QueryFileError::Read { path: name.clone(), error })?;
    parse(file, &name, options)
}

fn parse(source: impl Read, path: &str, options: Options) -> Result<Workload, QueryFileError> {
    let mut workload = Workload::default();
    let mut text = String::new();
    let mut source = BufReader::new(source);
    for line in 1.. {
        text.clear();
        let len = source
            .read_line(&mut text)
            .map_err(|error| QueryFileError::Read { path: path.to_owned(), error })?;
        if len == 0 {
            break;
        }
        let text = text.trim();
        if text.is_empty() || text.starts_with([';', '#']) {
            continue;
        }
        let question = question(text).map_err(|reason| QueryFileError::Line {
            path: path.to_owned(),
            line,
            text: text.chars().take(80).collect(),
            reason,
        })?;
        workload
            .push(&question, options)
            .map_err(|_| QueryFileError::TooLarge { path: path.to_owned() })?;
    }
    if workload.is_empty() {
        Err(QueryFileError::Empty { path: path.to_owned() })
    } else {
        Ok(workload)
    }
}

/// Parses `NAME TYPE`; the rest of the line is for `--verify`, which reads the same lines.
pub(crate) fn question(text: &str) -> Result<Question, String> {
    let mut words = text.split_ascii_whitespace();
    let (Some(name), Some(rtype)) = (words.next(), words.next()) else {
        return Err("the type is missing".to_owned());
    };
    let name =
        Name::<Vec<u8>>::from_str(name).map_err(|error| format!("not a domain name ({error})"))?;
    let rtype = Rtype::from_str(rtype).map_err(|_| format!("'{rtype}' is not a record type"))?;
    Ok(Question { name, rtype })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_parsed_or_rejected_with_the_line() {
        let long = format!("{}.example. A", "a".repeat(64));
        let rows: &[(&str, &[u8], Result<usize, &str>)] = &[
            ("two", b"www.example.com A\nexample.com. mx\n", Ok(2)),
            ("comments, blanks, no end of line", b"; c\n# c\n\n  a.b\tTYPE65  # tail", Ok(1)),
            ("the root", b". NS\n", Ok(1)),
            ("carriage returns", b"a.b A\r\nb.c AAAA\r\n", Ok(2)),
            ("no type", b"a.b A\na.b\n", Err("f:2: 'a.b': the type is missing")),
            ("no such type", b"a.b AAAAA", Err("'AAAAA' is not a record type")),
            ("long label", long.as_bytes(), Err("not a domain name")),
            ("no text", b"\xff\xfe A\n", Err("cannot read the query file f")),
            ("empty", b"", Err("holds no query")),
        ];
        for (name, file, expected) in rows {
            match (parse(*file, "f", Options::default()), expected) {
                (Ok(workload), Ok(count)) => assert_eq!(workload.len(), *count, "{name}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{name}: {error}")
                }
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }

    #[test]
    fn an_error_names_a_missing_file() {
        let error = read(Path::new("/no/such/file"), Options::default()).unwrap_err().to_string();
        assert!(error.contains("/no/such/file") && error.contains("No such file"), "{error}");
    }
}
