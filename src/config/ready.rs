//! `ready` as written: a word, or a word with what it is about.

use core::net::{Ipv4Addr, SocketAddr};

use crate::config::diagnostic::quoted;
use crate::config::section::{At, Section};
use crate::spec::Readiness;

/// The largest descriptor that readiness can be written to.
pub const DESCRIPTOR_MAX: i32 = 1023;

const FORMS: [&str; 6] = ["started", "exited", "notify", "fd:N", "tcp:HOST:PORT", "exec:COMMAND"];

#[derive(Clone, Debug)]
pub(super) enum WrittenReady {
    /// Complete as it stands.
    Known(Readiness),
    /// A command, with `${VAR}` still in its words; not empty.
    Exec(Vec<At<String>>),
}

impl WrittenReady {
    pub fn read(section: &mut Section<'_, '_>) -> Option<At<Self>> {
        let text = section.text("ready")?;
        match parse(&text.value, text.at) {
            Ok(ready) => Some(At::new(ready, text.at)),
            Err(error) => {
                let place = section.place();
                section.error_near(
                    text.at,
                    format!("`ready` in {place}: {error}"),
                    &text.value,
                    ["started", "exited", "notify"],
                );
                None
            }
        }
    }

    /// Whether it is ready as soon as it runs.
    pub fn is_started(&self) -> bool {
        matches!(self, Self::Known(Readiness::Started))
    }

    /// Whether it is a one-shot step.
    pub fn is_step(&self) -> bool {
        matches!(self, Self::Known(Readiness::Exited))
    }
}

fn parse(text: &str, at: usize) -> Result<WrittenReady, String> {
    let known = match text.split_once(':') {
        None => match text {
            "started" => Readiness::Started,
            "exited" => Readiness::Exited,
            "notify" => Readiness::Notify,
            _ => return Err(unknown(text)),
        },
        Some(("fd", number)) => match number.parse() {
            Ok(number @ 3..=DESCRIPTOR_MAX) => Readiness::Descriptor(number),
            Ok(_) | Err(_) => {
                return Err(format!("the N of fd:N is from 3 to {DESCRIPTOR_MAX}, not {}", quoted(number)));
            }
        },
        Some(("tcp", address)) => Readiness::Tcp(parse_address(address)?),
        Some(("exec", command)) => {
            let words = shell_words::split(command).map_err(|_| "a quote of its command is not closed".to_owned())?;
            if words.first().is_none_or(String::is_empty) {
                return Err("its command is empty".to_owned());
            }
            return Ok(WrittenReady::Exec(words.into_iter().map(|word| At::new(word, at)).collect()));
        }
        Some(_) => return Err(unknown(text)),
    };
    Ok(WrittenReady::Known(known))
}

fn unknown(text: &str) -> String {
    format!("{} is none of {}", quoted(text), FORMS.join(", "))
}

/// Nothing here resolves names: an address is numeric, or localhost.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let address = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().ok(),
    };
    address.filter(|address| address.port() > 0).ok_or_else(|| {
        format!("{} is no address; write for example tcp:127.0.0.1:80, tcp:[::1]:80 or tcp:localhost:80", quoted(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        let address = |text: &str| Readiness::Tcp(text.parse().unwrap());
        for (text, expected) in [
            ("started", Readiness::Started),
            ("exited", Readiness::Exited),
            ("notify", Readiness::Notify),
            ("fd:3", Readiness::Descriptor(3)),
            ("fd:1023", Readiness::Descriptor(1023)),
            ("tcp:127.0.0.1:80", address("127.0.0.1:80")),
            ("tcp:localhost:65535", address("127.0.0.1:65535")),
            ("tcp:[::1]:8080", address("[::1]:8080")),
        ] {
            let WrittenReady::Known(ready) = parse(text, 0).unwrap() else { panic!("{text}") };
            assert_eq!(ready, expected);
        }
        let WrittenReady::Exec(words) = parse("exec:test -e 'a b'", 4).unwrap() else { panic!("no command") };
        assert_eq!(words, ["test", "-e", "a b"].map(|word| At::new(word.to_owned(), 4)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("soon", "`soon` is none of started, exited, notify, fd:N, tcp:HOST:PORT, exec:COMMAND"),
            ("udp:1", "`udp:1` is none of started, exited, notify, fd:N, tcp:HOST:PORT, exec:COMMAND"),
            ("fd:2", "the N of fd:N is from 3 to 1023, not `2`"),
            ("fd:1024", "the N of fd:N is from 3 to 1023, not `1024`"),
            ("exec:  ", "its command is empty"),
            ("exec:it's", "a quote of its command is not closed"),
        ] {
            assert_eq!(parse(text, 0).unwrap_err(), expected, "{text}");
        }
        for text in
            ["tcp:example.org:80", "tcp:80", "tcp:127.0.0.1", "tcp:localhost:0", "tcp:127.0.0.1:0", "tcp:localhost:x"]
        {
            assert!(parse(text, 0).unwrap_err().contains("is no address"), "{text}");
        }
    }
}
