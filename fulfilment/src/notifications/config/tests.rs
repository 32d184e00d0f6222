use kontor_eventstore::SystemClock;

use super::*;

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn config() -> NotificationsConfig {
    NotificationsConfig::to_outbox(std::env::temp_dir())
}

#[test]
fn a_mail_server_is_understood() {
    for (url, host, port, encryption) in [
        ("smtp://mail.example", "mail.example", 587, Encryption::None),
        (
            "smtp://mail.example:25?tls=required",
            "mail.example",
            25,
            Encryption::StartTls,
        ),
        (
            "smtp://mail.example?tls=opportunistic",
            "mail.example",
            587,
            Encryption::Offered,
        ),
        ("smtps://mail.example", "mail.example", 465, Encryption::Tls),
        ("smtps://127.0.0.1:2465", "127.0.0.1", 2465, Encryption::Tls),
    ] {
        let smtp = smtp(url).unwrap();
        assert_eq!(
            (smtp.host.as_str(), smtp.port, smtp.encryption),
            (host, port, encryption),
            "{url}"
        );
        assert!(smtp.login.is_none());
    }
    let login = smtp("smtps://me%40example.com:p%2Fw@mail.example").unwrap().login;
    assert_eq!(
        login,
        Some(Credentials::new("me@example.com".to_owned(), "p/w".to_owned()))
    );
}

#[test]
fn who_vouches_for_a_mail_server_is_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, missing) = (folder.path().join("empty.pem"), folder.path().join("missing.pem"));
    std::fs::write(&empty, "no certificate").unwrap();
    for file in [&empty, &missing] {
        for scheme in ["smtps://mail.example?", "smtp://mail.example?tls=required&"] {
            let url = format!("{scheme}ca={}", file.display());
            let refused = smtp(&url).err();
            assert!(
                matches!(&refused, Some(ConfigError::SmtpCa { file: of, .. }) if of == file),
                "{url}: {refused:?}"
            );
        }
    }
    // Nobody would be asked to vouch.
    let plain = format!("smtp://mail.example?ca={}", empty.display());
    assert!(matches!(smtp(&plain), Err(ConfigError::SmtpUrl)));
}

#[test]
fn an_sms_provider_is_understood() {
    assert!(sms("https://AC1:token@sms.example", "+49".to_owned()).is_ok());
    for wrong in [
        "https://sms.example",
        "https://AC1@sms.example",
        "ftp://a:b@sms.example",
        "nonsense",
    ] {
        assert!(
            matches!(sms(wrong, "+49".to_owned()), Err(ConfigError::SmsUrl)),
            "{wrong}"
        );
    }
}

#[test]
fn what_is_wrong_is_said_without_the_secret() {
    let wrong = "smtp://user:hunter2@mail.example?tls=perhaps";
    let mut config = config();
    config.mail = MailBy::Smtp(wrong.into());
    let error = config.open(&clock()).err().unwrap();
    let printed = format!("{error} {error:?} {config:?}");
    assert!(
        printed.contains("KONTOR_SMTP_URL is not a mail server's"),
        "{printed}"
    );
    assert!(!printed.contains("hunter2"), "{printed}");
    for wrong in [
        "mail.example:25",
        "smtp://user@mail.example",
        "http://mail.example",
        "smtp:///",
    ] {
        assert!(matches!(smtp(wrong), Err(ConfigError::SmtpUrl)), "{wrong}");
    }
    config.mail_from = "nobody".to_owned();
    assert!(matches!(config.open(&clock()), Err(ConfigError::MailFrom)));
}

#[test]
fn pauses_double_up_to_the_longest() {
    let post = config().open(&clock()).unwrap();
    let minutes: Vec<u64> = (1..=9)
        .map(|failures| post.pause(failures).as_secs() / 30)
        .collect();
    assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
    assert_eq!(post.pause(u32::MAX), Duration::from_secs(3_600));
}
