//! How a prober is told what is right: a Unix socket, one command a connection, answered once it is
//! in force (so that a test may make its change right after).
//!
//! ```text
//! expect LABEL NAME,NAME…   from now on these answers are right   → ok
//! report                    → the counts as JSON
//! stop                      finish what is under way, end         → the counts as JSON
//! ```

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::probe::Prober;

/// What a prober may be told.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Expect { label: String, names: String },
    Report,
    Stop,
}

fn parse(text: &str) -> anyhow::Result<Command> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(match words[..] {
        ["expect", label, names] => {
            Command::Expect { label: label.to_owned(), names: names.to_owned() }
        }
        ["report"] => Command::Report,
        ["stop"] => Command::Stop,
        _ => bail!("'{text}' is none of: expect LABEL NAME,NAME…; report; stop"),
    })
}

/// Obeys until told to stop.
pub(crate) async fn obey(listener: &UnixListener, prober: &Prober) -> anyhow::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await.context("accept on the control socket")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.context("read a command")?;
        let command = parse(&text);
        let stop = matches!(command, Ok(Command::Stop));
        let answer = match command {
            Ok(Command::Expect { label, names }) => {
                prober.expect(&label, &names).map(|()| "ok".to_owned())
            }
            Ok(Command::Report) => prober.report_json(),
            Ok(Command::Stop) => {
                prober.finish().await;
                prober.report_json()
            }
            Err(error) => Err(error),
        };
        let answer = answer.unwrap_or_else(|error| format!("error: {error:#}"));
        // The asker may be gone; the command is done all the same.
        let _ = stream.write_all(answer.as_bytes()).await;
        if stop {
            return Ok(());
        }
    }
}

/// Sends one command and returns the answer.
pub(crate) async fn tell(socket: &Path, words: &str) -> anyhow::Result<String> {
    let reach = || format!("reach the prober at {}", socket.display());
    let mut stream = UnixStream::connect(socket).await.with_context(reach)?;
    stream.write_all(words.as_bytes()).await.with_context(reach)?;
    stream.shutdown().await.with_context(reach)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.with_context(reach)?;
    match answer.strip_prefix("error: ") {
        Some(error) => Err(anyhow!("the prober refused: {error}")),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_parsed_and_others_refused() {
        let expect = Command::Expect { label: "web".into(), names: "a,b".into() };
        assert_eq!(parse("expect web a,b").unwrap(), expect);
        assert_eq!(parse("stop").unwrap(), Command::Stop);
        assert!(parse("expect web").is_err());
        assert!(parse("").is_err());
    }
}
