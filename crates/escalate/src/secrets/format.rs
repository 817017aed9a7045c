//! Secrets that have a form of their own: tokens with the vendor's prefix, blocks of private keys, passwords in addresses.

use regex::bytes::{Regex, RegexSet};

use super::Hit;
use super::worth::{is_password, is_random};

/// All forms.
#[derive(Debug)]
pub(super) struct Formats {
    /// Which of them are in a text, in one walk.
    any: RegexSet,
    formats: Vec<Format>,
}

/// A form.
#[derive(Debug)]
struct Format {
    kind: &'static str,
    /// The secret is the last group, or all of it; the group before it is whose it is.
    regex: Regex,
    /// Whether something of this form is one.
    holds: Holds,
}

/// Whether a secret, and whose, is one.
type Holds = fn(&[u8], &[u8]) -> bool;

/// Forms that are secrets wherever they stand; vendors publish them for this purpose. Those whose rest is not long and
/// random by itself are held to be so.
const TOKENS: [(&str, &str); 40] = [
    ("AWS access key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    ("GitHub token", r"gh[pousr]_[A-Za-z0-9]{36,}"),
    ("GitHub token", r"github_pat_[A-Za-z0-9_]{36,}"),
    ("GitLab token", r"\bgl(?:pat|ptt|dt|rt|rtr|oas|cbt|imt|agent|soat|ft|ffct)-[A-Za-z0-9_.-]{20,}"),
    ("Slack token", r"\bxox[abeoprsc]-[A-Za-z0-9-]{10,}"),
    ("Slack token", r"\bxapp-[0-9]-[A-Za-z0-9]+-[0-9]+-[a-z0-9]{20,}"),
    ("Slack webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}"),
    ("Discord webhook", r"discord(?:app)?\.com/api/webhooks/[0-9]+/[A-Za-z0-9_-]{50,}"),
    ("Stripe key", r"\b[rs]k_(?:live|test|prod)_[A-Za-z0-9]{16,}"),
    ("Stripe webhook secret", r"\bwhsec_[A-Za-z0-9+/=]{20,}"),
    ("Google API key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("Google OAuth token", r"\bya29\.[A-Za-z0-9_-]{20,}"),
    ("Google OAuth secret", r"\bGOCSPX-[A-Za-z0-9_-]{20,}"),
    ("Anthropic key", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    ("OpenRouter key", r"\bsk-or-v1-[0-9a-f]{40,}"),
    ("OpenAI key", r"\bsk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,}"),
    ("OpenAI key", r"\bsk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
    ("API key", r"\bsk-[A-Za-z0-9]{32,}\b"),
    ("Groq key", r"\bgsk_[A-Za-z0-9]{40,}"),
    ("xAI key", r"\bxai-[A-Za-z0-9]{60,}"),
    ("Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}\b"),
    ("npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("npm token", r"(?:^|[\s:\x22'])_auth(?:Token)?[ \t]*=[ \t]*([A-Za-z0-9+/=_-]{16,})"),
    ("PyPI token", r"\bpypi-[A-Za-z0-9_-]{50,}"),
    ("crates.io token", r"\bcio[A-Za-z0-9]{32}\b"),
    ("Docker token", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}"),
    ("DigitalOcean token", r"\bdo[opr]_v1_[a-f0-9]{64}"),
    ("SendGrid key", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{30,}"),
    ("Mailgun key", r"\bkey-[0-9a-f]{32}\b"),
    ("Twilio key", r"\bSK[0-9a-f]{32}\b"),
    ("Telegram bot token", r"\b[0-9]{8,}:AA[A-Za-z0-9_-]{33}\b"),
    ("Vault token", r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
    ("Databricks token", r"\bdapi[0-9a-f]{32}\b"),
    ("Shopify token", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    ("Linear key", r"\blin_api_[A-Za-z0-9]{30,}"),
    ("Atlassian token", r"\bATATT3[A-Za-z0-9_=-]{80,}"),
    ("Azure storage key", r"AccountKey=([A-Za-z0-9+/]{40,}={0,2})"),
    ("age key", r"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    ("JSON web token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"),
    (
        "Authorization header",
        r"(?i:authorization)[^\n]{0,}?(?i:bearer|basic|token)[ \t]+([A-Za-z0-9+/=._~-]{16,})",
    ),
];

/// Passwords beside a name and a host. Those of databases are passwords even where they are words.
const LOGINS: [(&str, &str, Holds); 3] = [
    (
        "netrc password",
        r"\bmachine[ \t\n]+[^ \t\n]+[ \t\n]+login[ \t\n]+([^ \t\n]+)[ \t\n]+password[ \t\n]+([^ \t\n\x22']{4,200})",
        is_database_login,
    ),
    (
        "password in an address",
        r#"\b(?i:postgres(?:ql)?|mysql|mariadb|mssql|sqlserver|oracle|mongodb(?:\+srv)?|rediss?|amqps?|clickhouse|cockroachdb|nats|ldaps?|smtps?|imaps?)(?:\+[a-z0-9]+)?://([^\s:/@"'<>`]{0,100}):([^\s@"'<>`]{3,200})@[A-Za-z0-9\[]"#,
        is_database_login,
    ),
    (
        "password in an address",
        r#"\b(?i:https?|ftps?|sftp|ssh|git|wss?|socks5h?|svn)(?:\+[a-z0-9]+)?://([^\s:/@"'<>`]{0,100}):([^\s@/"'<>`]{3,200})@[A-Za-z0-9\[]"#,
        is_web_login,
    ),
];

impl Formats {
    /// Every form.
    pub(super) fn new() -> Formats {
        let tokens = TOKENS.into_iter().map(|(kind, pattern)| (kind, pattern, is_token as Holds));
        let all: Vec<(&'static str, String, Holds)> = tokens
            .chain(LOGINS)
            .map(|(kind, pattern, holds)| (kind, format!("(?-u){pattern}"), holds))
            .collect();
        let any = RegexSet::new(all.iter().map(|(_, pattern, _)| pattern)).expect("a test makes it");
        let format = |(kind, pattern, holds): (&'static str, String, Holds)| {
            let regex = Regex::new(&pattern).expect("a test makes it");
            Format { kind, regex, holds }
        };
        Formats { any, formats: all.into_iter().map(format).collect() }
    }

    /// All secrets of any form.
    pub(super) fn hits(&self, text: &[u8]) -> Vec<Hit> {
        self.any.matches(text).iter().flat_map(|at| self.formats[at].hits(text)).collect()
    }
}

impl Format {
    /// All of this form.
    fn hits(&self, text: &[u8]) -> Vec<Hit> {
        let hit = |found: regex::bytes::Captures<'_>| {
            let mut groups: Vec<_> = found.iter().flatten().collect();
            let secret = groups.pop()?;
            let whose = groups.pop().map_or(&[][..], |whose| whose.as_bytes());
            // Nobody has a password at a host that is for documents.
            let host = text[secret.end()..].strip_prefix(b"@").unwrap_or_default();
            let hit = Hit { kind: self.kind, at: secret.start(), secret: secret.as_bytes().to_vec() };
            ((self.holds)(whose, secret.as_bytes()) && !host.starts_with(b"example.")).then_some(hit)
        };
        self.regex.captures_iter(text).filter_map(hit).collect()
    }
}

/// What documents show in place of a token: letters in a row, one letter many times, the word itself.
fn is_token(_: &[u8], token: &[u8]) -> bool {
    is_random(token, 2.6) && !token.to_ascii_lowercase().windows(7).any(|part| part == b"example")
}

fn is_database_login(user: &[u8], password: &[u8]) -> bool {
    user != password && is_password(password, 0)
}

fn is_web_login(user: &[u8], password: &[u8]) -> bool {
    user != password && is_password(password, 1)
}

/// Blocks of private keys that have something in them: programs that read such blocks name the line that begins them.
pub(super) fn private_keys(text: &[u8]) -> Vec<Hit> {
    const LABEL: &[u8] = b"PRIVATE KEY";
    /// Longer than any key.
    const LONGEST: usize = 32 << 10;
    let mut hits = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&text[from..], LABEL).map(|at| from + at) {
        from = at + LABEL.len();
        let line = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let Some(begin) = find(&text[line..at], b"BEGIN").map(|begin| line + begin) else { continue };
        let rest = &text[from..text.len().min(from + LONGEST)];
        let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest);
        let body = &rest[..find(rest, b"-----END").unwrap_or(rest.len())];
        let key = key(body);
        if key.len() >= 40 {
            hits.push(Hit { kind: "private key", at: begin, secret: key });
        }
    }
    hits
}

/// The base64 that follows a key's first line, without what diffs and string literals put around its lines.
fn key(body: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    for line in body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        let signs = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
        let longest = line.split(|byte| !signs(byte)).max_by_key(|run| run.len()).unwrap_or_default();
        let longest = longest.strip_prefix(b"+").filter(|_| line.starts_with(b"+")).unwrap_or(longest);
        let is_last = longest.len() < 40;
        // Headers such as `Proc-Type: 4,ENCRYPTED` come before the key, and code may come after it.
        match (is_last, key.is_empty()) {
            (true, true) => {}
            (true, false) => {
                key.extend_from_slice(longest);
                break;
            }
            (false, _) => key.extend_from_slice(longest),
        }
    }
    key
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
