//! Hands one e-mail to a mail server (RFC 5321, with STARTTLS of RFC 3207 and AUTH PLAIN of RFC 4954).

use base64::{Engine, engine::general_purpose::STANDARD};
use thimble_control::notify::{Mail, MailTls, OutboundError};
use thimble_plugin::egress::NetStream;
use zeroize::Zeroizing;

use super::told;

/// Longest line of a reply, and most lines of one.
const MAX_LINE: usize = 2_048;
const MAX_LINES: usize = 128;
/// How we call ourselves.
const OWN_NAME: &str = "thimble.invalid";

struct Conversation {
    stream: NetStream,
    unread: Vec<u8>,
}

/// A reply: its code, and the text of its lines.
struct Reply {
    code: u16,
    lines: Vec<String>,
}

/// Speaks to the server until it has taken the message.
pub(super) async fn hand_over(stream: NetStream, mail: &Mail) -> Result<(), OutboundError> {
    let mut conversation = Conversation { stream, unread: Vec::new() };
    if mail.server.tls == MailTls::Implicit {
        conversation.stream.start_tls().await.map_err(told)?;
    }
    conversation.expect("the greeting", 220).await?;
    let mut offers = conversation.ask("EHLO", &format!("EHLO {OWN_NAME}"), 250).await?;
    if mail.server.tls == MailTls::Starttls {
        if !offers.offers("STARTTLS") {
            return Err(OutboundError::Refused(format!("{} does not offer STARTTLS", conversation.name())));
        }
        conversation.ask("STARTTLS", "STARTTLS", 220).await?;
        if !conversation.unread.is_empty() {
            return Err(OutboundError::Failed(format!("{} spoke before TLS began", conversation.name())));
        }
        conversation.stream.start_tls().await.map_err(told)?;
        offers = conversation.ask("EHLO", &format!("EHLO {OWN_NAME}"), 250).await?;
    }
    if let Some((user, password)) = &mail.server.login {
        if mail.server.tls == MailTls::None {
            return Err(OutboundError::Refused("a password is not sent without TLS".into()));
        }
        if !offers.offers("AUTH") {
            return Err(OutboundError::Refused(format!("{} takes no login", conversation.name())));
        }
        let plain = Zeroizing::new(format!("\0{user}\0{}", password.as_str()));
        let line = Zeroizing::new(format!("AUTH PLAIN {}", STANDARD.encode(plain.as_bytes())));
        conversation.ask("the login", &line, 235).await?;
    }
    conversation.letter(mail).await?;
    // The message is taken; how the server says goodbye changes nothing.
    let _ = conversation.ask("QUIT", "QUIT", 221).await;
    Ok(())
}

impl Conversation {
    async fn letter(&mut self, mail: &Mail) -> Result<(), OutboundError> {
        self.ask("the sender", &format!("MAIL FROM:<{}>", mail.from), 250).await?;
        let mut refusal = None;
        let mut taken = 0;
        for to in &mail.to {
            match self.ask("a recipient", &format!("RCPT TO:<{to}>"), 250).await {
                Ok(_) => taken += 1,
                Err(error @ OutboundError::Refused(_)) => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        match refusal {
            Some(refusal) if taken == 0 => return Err(refusal),
            Some(refusal) => tracing::warn!(error = %refusal, "a recipient of a notification was refused"),
            None => {}
        }
        self.ask("the message", "DATA", 354).await?;
        let stuffed = mail.message.replace("\r\n.", "\r\n..");
        self.ask("the message", &format!("{stuffed}\r\n."), 250).await?;
        Ok(())
    }

    fn name(&self) -> String {
        format!("the mail server {}", self.stream.target())
    }

    async fn ask(&mut self, what: &str, line: &str, expected: u16) -> Result<Reply, OutboundError> {
        let line = Zeroizing::new(format!("{line}\r\n"));
        self.stream.write(line.as_bytes()).await.map_err(told)?;
        self.expect(what, expected).await
    }

    async fn expect(&mut self, what: &str, expected: u16) -> Result<Reply, OutboundError> {
        let reply = self.reply().await?;
        // 251 means that a recipient is forwarded.
        if reply.code == expected || (expected == 250 && reply.code == 251) {
            return Ok(reply);
        }
        let text = reply.lines.join(" ");
        let message = format!("{} refused {what}: {} {text}", self.name(), reply.code);
        Err(if reply.code >= 500 { OutboundError::Refused(message) } else { OutboundError::Failed(message) })
    }

    async fn reply(&mut self) -> Result<Reply, OutboundError> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            let odd = || OutboundError::Failed(format!("{} does not speak SMTP", self.name()));
            let (code, rest) = line.split_at_checked(3).ok_or_else(odd)?;
            let code: u16 = code.parse().map_err(|_| odd())?;
            let more = rest.starts_with('-');
            let text = rest.get(1..).unwrap_or_default();
            lines.push(text.chars().filter(|letter| !letter.is_control()).collect());
            if !more {
                return Ok(Reply { code, lines });
            }
            if lines.len() >= MAX_LINES {
                return Err(odd());
            }
        }
    }

    async fn line(&mut self) -> Result<String, OutboundError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.unread.len() > MAX_LINE {
                return Err(OutboundError::Failed(format!(
                    "{} sent a line of more than {MAX_LINE} bytes",
                    self.name()
                )));
            }
            let read = self.stream.read(MAX_LINE).await.map_err(told)?;
            if read.is_empty() {
                return Err(OutboundError::Failed(format!("{} hung up", self.name())));
            }
            self.unread.extend_from_slice(&read);
        }
    }
}

impl Reply {
    fn offers(&self, keyword: &str) -> bool {
        self.lines.iter().any(|line| line.split(' ').next().is_some_and(|word| word.eq_ignore_ascii_case(keyword)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use thimble_control::notify::{MailServer, Outbound};
    use thimble_plugin::egress::{PrivateNetworks, TlsRoots};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::{super::Sender, *};

    /// A mail server of the test: answers each command as `answers` says (by its first word) and tells what it heard.
    async fn server(answers: &'static [(&'static str, &'static str)]) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let (read, mut write) = socket.into_split();
            let mut lines = BufReader::new(read).lines();
            let mut heard = Vec::new();
            let mut in_data = false;
            write.write_all(b"220-hello\r\n220 there\r\n").await.unwrap();
            while let Ok(Some(line)) = lines.next_line().await {
                let word = line.split([' ', ':']).next().unwrap().to_owned();
                let known = answers.iter().find(|(command, _)| *command == word);
                let answer = match (in_data, line.as_str(), known) {
                    (true, ".", _) => Some("250 taken"),
                    (true, ..) => None,
                    (false, _, Some((_, answer))) => Some(*answer),
                    (false, ..) => Some("250 fine"),
                };
                in_data = if line == "." { false } else { in_data || line == "DATA" };
                heard.push(line);
                if let Some(answer) = answer {
                    write.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
                }
            }
            heard
        });
        (port, heard)
    }

    fn mail(port: u16, tls: MailTls, login: bool) -> Mail {
        let login = login.then(|| ("user".to_owned(), Zeroizing::new("planted-secret".to_owned())));
        let server = MailServer { host: "127.0.0.1".into(), port, tls, login };
        let to = vec!["b@example.org".to_owned(), "gone@example.org".to_owned()];
        let message = "Subject: x\r\n\r\n.hidden\r\nend\r\n".to_owned();
        Mail { server, from: "a@example.org".into(), to, message }
    }

    async fn send(mail: Mail) -> Result<(), OutboundError> {
        Sender::new(PrivateNetworks::Any(true), TlsRoots::default()).mail(mail, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn a_message_is_handed_over_with_its_dots() {
        let (port, heard) = server(&[("DATA", "354 go on"), ("QUIT", "221 bye")]).await;
        send(mail(port, MailTls::None, false)).await.unwrap();
        let heard = heard.await.unwrap();
        let expected = [
            "EHLO thimble.invalid",
            "MAIL FROM:<a@example.org>",
            "RCPT TO:<b@example.org>",
            "RCPT TO:<gone@example.org>",
            "DATA",
            "Subject: x",
            "",
            "..hidden",
            "end",
            "",
            ".",
            "QUIT",
        ];
        assert_eq!(heard, expected);
    }

    #[tokio::test]
    async fn refusals_and_troubles_are_told_apart() {
        let (port, _) = server(&[("RCPT", "550 no such user")]).await;
        let told = send(mail(port, MailTls::None, false)).await.unwrap_err();
        assert!(matches!(&told, OutboundError::Refused(text) if text.contains("550 no such user")), "{told:?}");
        let (port, _) = server(&[("MAIL", "451 later")]).await;
        assert!(matches!(send(mail(port, MailTls::None, false)).await, Err(OutboundError::Failed(_))));
        let (port, _) = server(&[("EHLO", "what")]).await;
        assert!(matches!(send(mail(port, MailTls::None, false)).await, Err(OutboundError::Failed(_))));
    }

    #[tokio::test]
    async fn a_password_leaves_only_under_tls() {
        let (port, heard) = server(&[("EHLO", "250 AUTH PLAIN")]).await;
        for tls in [MailTls::None, MailTls::Starttls] {
            let told = send(mail(port, tls, true)).await;
            assert!(told.is_err());
            if tls == MailTls::None {
                assert!(matches!(told, Err(OutboundError::Refused(_))));
            }
        }
        let heard = heard.await.unwrap();
        assert!(heard.iter().all(|line| !line.contains("AUTH")), "{heard:?}");
    }
}
