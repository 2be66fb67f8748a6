//! One audit record of `AppArmor`'s, read.

use std::collections::BTreeMap;

use crate::{
    capability::Capability,
    trace::{LsmAccess, Refusal, flags_of_words},
};

/// The fields of a record, decoded.
#[derive(Debug)]
pub(super) struct Record(BTreeMap<String, String>);

impl Record {
    /// Reads `audit(…): apparmor="DENIED" operation="open" name=2F78…`. A string with anything in it that
    /// could be taken for something else is in hexadecimal (`audit_log_untrustedstring`).
    pub(super) fn parse(text: &str) -> Self {
        let mut fields = BTreeMap::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('=') {
            let key = before.rsplit([' ', '\u{1d}']).next().unwrap_or(before);
            let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
                let (value, after) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value.to_owned(), after)
            } else {
                let end = after.find([' ', '\n', '\0']).unwrap_or(after.len());
                (if is_text(key) { unhex(&after[..end]) } else { after[..end].to_owned() }, &after[end..])
            };
            fields.entry(key.to_owned()).or_insert(value);
            rest = after;
        }
        Self(fields)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn text(&self, key: &str) -> String {
        self.get(key).unwrap_or_default().to_owned()
    }

    /// A path without the slash that a directory's ends with.
    fn path(&self, key: &str) -> Option<String> {
        let path = self.get(key)?;
        let short = path.trim_end_matches('/');
        Some(if short.is_empty() { path } else { short }.to_owned())
    }
}

/// Which fields hold text that may be in hexadecimal.
fn is_text(key: &str) -> bool {
    matches!(key, "name" | "srcname" | "comm" | "profile" | "peer" | "target" | "fstype")
}

fn unhex(text: &str) -> String {
    let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        }
        _ => None,
    });
    bytes
        .collect::<Option<Vec<u8>>>()
        .map_or_else(|| text.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// What a record says was refused under a profile, or would have been if it were not only watched (in the kernel's
/// words "ALLOWED", `aa_audit` in security/apparmor/audit.c); `None` of any other record.
pub(super) fn refusal(record: &Record, profile: &str) -> Option<Refusal> {
    if !matches!(record.get("apparmor"), Some("DENIED" | "ALLOWED")) {
        return None;
    }
    let own = record.get("profile")?;
    let access = if is_under(own, profile) {
        access(record)
    } else if record.get("peer").is_some_and(|peer| is_under(peer, profile)) {
        LsmAccess::Other(format!("{} by the profile {own}", record.text("operation")))
    } else {
        return None;
    };
    Some(Refusal { program: record.text("comm"), access, renamed: false, run: 0 })
}

/// The profile itself, or one that it made.
fn is_under(name: &str, profile: &str) -> bool {
    name.strip_prefix(profile).is_some_and(|rest| rest.is_empty() || rest.starts_with("//"))
}

/// The operations' names are those of security/apparmor/include/audit.h.
fn access(record: &Record) -> LsmAccess {
    let operation = record.text("operation");
    let mask = || record.text("denied_mask");
    match operation.as_str() {
        "mount" => LsmAccess::Mount {
            fstype: record.get("fstype").map(str::to_owned),
            source: record.path("srcname"),
            target: record.path("name").unwrap_or_default(),
            flags: flags_of_words(&record.text("flags")),
        },
        "pivotroot" => LsmAccess::PivotRoot {
            target: record.path("name").unwrap_or_default(),
            source: record.path("srcname"),
        },
        "capable" => match record.text("capname").parse::<Capability>() {
            Ok(capability) => LsmAccess::Capability(capability),
            Err(_) => LsmAccess::Other(operation),
        },
        "ptrace" => LsmAccess::Ptrace { mask: mask(), peer: record.text("peer") },
        "signal" => {
            LsmAccess::Signal { mask: mask(), signal: record.text("signal"), peer: record.text("peer") }
        }
        "change_profile" | "change_onexec" if record.get("name").is_some() => {
            LsmAccess::ChangeProfile(record.text("name"))
        }
        _ if record.get("family").is_some() => {
            LsmAccess::Network { family: record.text("family"), kind: record.text("sock_type") }
        }
        "umount" => LsmAccess::Other(operation),
        _ => match (record.get("name"), record.get("denied_mask")) {
            (Some(path), Some(mask)) if path.starts_with('/') => {
                LsmAccess::File { path: record.path("name").unwrap_or_default(), mask: mask.to_owned() }
            }
            _ => LsmAccess::Other(operation),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<LsmAccess> {
        refusal(&Record::parse(text), "unpriv-x-1").map(|refusal| refusal.access)
    }

    #[test]
    fn mounts_are_read_with_their_flags() {
        let record = r#"audit(1764.1:7): apparmor="DENIED" operation="mount" info="failed mntpnt match" error=-13 profile="unpriv-x-1" name="/mnt/" pid=9 comm="mount" fstype="tmpfs" srcname="none" flags="ro, nosuid""#;
        let mount = LsmAccess::Mount {
            fstype: Some("tmpfs".to_owned()),
            source: Some("none".to_owned()),
            target: "/mnt".to_owned(),
            flags: 3,
        };
        assert_eq!(refused(record), Some(mount));
    }

    #[test]
    fn names_in_hexadecimal_are_decoded() {
        let record = r#"audit(1.1:7): apparmor="DENIED" operation="open" profile="unpriv-x-1" name=2F70726F632F6120220A pid=9 comm=612062 requested_mask="w" denied_mask="w" fsuid=0 ouid=0"#;
        let refusal = refusal(&Record::parse(record), "unpriv-x-1").unwrap();
        assert_eq!(refusal.program, "a b");
        assert_eq!(refusal.access, LsmAccess::File { path: "/proc/a \"\n".to_owned(), mask: "w".to_owned() });
    }

    #[test]
    fn peers_and_capabilities_are_read() {
        let ptrace = r#"apparmor="DENIED" operation="ptrace" class="ptrace" profile="unpriv-x-1" pid=9 comm="gdb" requested_mask="trace" denied_mask="trace" peer="unconfined""#;
        let access = LsmAccess::Ptrace { mask: "trace".to_owned(), peer: "unconfined".to_owned() };
        assert_eq!(refused(ptrace), Some(access));
        let signal = r#"apparmor="DENIED" operation="signal" profile="unpriv-x-1" pid=9 comm="sh" requested_mask="send" denied_mask="send" signal=term peer="docker-default""#;
        assert!(matches!(refused(signal), Some(LsmAccess::Signal { signal, .. }) if signal == "term"));
        let capable = r#"apparmor="DENIED" operation="capable" profile="unpriv-x-1" pid=9 comm="ip" capability=12  capname="net_admin""#;
        assert_eq!(refused(capable), Some(LsmAccess::Capability(Capability::NET_ADMIN)));
        let alg = r#"apparmor="DENIED" operation="create" profile="unpriv-x-1" pid=9 comm="x" family="alg" sock_type="seqpacket" protocol=0 requested_mask="create" denied_mask="create""#;
        assert!(matches!(refused(alg), Some(LsmAccess::Network { family, .. }) if family == "alg"));
    }

    #[test]
    fn what_a_watched_profile_let_through_is_told_alike() {
        let allowed = r#"apparmor="ALLOWED" operation="pivotroot" profile="unpriv-x-1" name="/a/" pid=9 comm="x" srcname="/a/b/""#;
        let access = LsmAccess::PivotRoot { target: "/a".to_owned(), source: Some("/a/b".to_owned()) };
        assert_eq!(refused(allowed), Some(access));
        assert_eq!(refused(&allowed.replace("ALLOWED", "AUDIT")), None);
    }

    #[test]
    fn what_another_profile_refused_is_not_for_ours_to_allow() {
        let other = r#"apparmor="DENIED" operation="signal" profile="docker-default" pid=9 comm="sh" requested_mask="receive" denied_mask="receive" signal=term peer="unpriv-x-1""#;
        assert_eq!(refused(other), Some(LsmAccess::Other("signal by the profile docker-default".to_owned())));
        assert_eq!(refused(r#"apparmor="DENIED" operation="open" profile="docker-default" name="/x""#), None);
        assert_eq!(refused(r#"apparmor="DENIED" operation="open" profile="unpriv-x-12" name="/x""#), None);
        assert_eq!(refused("no record at all"), None);
    }
}
