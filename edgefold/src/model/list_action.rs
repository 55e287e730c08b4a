//! What a list does, as text: in a `LIST` command, and in the view.

use std::borrow::Cow;
use std::fmt;

use edgefold_snapshot::{ListAction, ListKind, Named, Refusal, Share};
use edgefold_table::shorten;

use super::attributes::{Attributes, Quoted};
use super::command::CommandError;

/// The attributes that say what a list does.
pub(super) const LIST_ATTRIBUTES: &[&str] = &["action", "share", "status", "body", "content_type", "header"];

/// Reads what [`ListActionText`] writes.
///
/// # Errors
/// [`CommandError`] says what is wrong and what would be right.
pub(crate) fn parse_list_action(text: &str) -> Result<ListAction, CommandError> {
    list_action(Attributes::parse(text, |name| match name {
        name if LIST_ATTRIBUTES.contains(&name) => Ok(()),
        _ => Err(CommandError::UnknownAttribute { name: shorten(name), known: LIST_ATTRIBUTES }),
    })?)
}

pub(super) fn list_action(mut attributes: Attributes<'_>) -> Result<ListAction, CommandError> {
    let action = attributes.take("action").ok_or(CommandError::NoListAction)?;
    let (share, refusal) = (share(&mut attributes)?, refusal(&mut attributes)?);
    let other = match ListKind::from_name(&action.to_ascii_lowercase()) {
        Some(ListKind::Deny) => return Ok(ListAction::Deny { share: share.unwrap_or(Share::ALL), refusal }),
        Some(ListKind::Shadow) => ListAction::Shadow,
        Some(ListKind::Exempt) => ListAction::Exempt,
        Some(ListKind::Tag) => ListAction::Tag,
        None => return Err(CommandError::ListAction { found: shorten(&action) }),
    };
    match (share, refusal) {
        (None, None) => Ok(other),
        (Some(_), _) => Err(CommandError::OnlyDeny { name: "share" }),
        (None, Some(_)) => Err(CommandError::OnlyDeny { name: "status, body, content_type and header" }),
    }
}

fn share(attributes: &mut Attributes<'_>) -> Result<Option<Share>, CommandError> {
    Ok(attributes.take("share").map(|share| share.parse()).transpose()?)
}

/// The response, if any of its parts is given. Other parts have their defaults, so that it is complete, and valid, by itself.
fn refusal(attributes: &mut Attributes<'_>) -> Result<Option<Refusal>, CommandError> {
    let parts = (attributes.take("status"), attributes.take("body"), attributes.take("content_type"));
    let mut headers = Vec::new();
    while let Some(header) = attributes.take("header") {
        let (name, value) = header.split_once(':').ok_or_else(|| CommandError::Header { found: shorten(&header) })?;
        headers.push((name.to_owned(), value.trim_ascii().to_owned()));
    }
    if parts == (None, None, None) && headers.is_empty() {
        return Ok(None);
    }
    let (status, body, content_type) = parts;
    let default = Refusal::default();
    let status = match status {
        None => default.status,
        Some(status) => status.parse().map_err(|_| CommandError::Status { found: shorten(&status) })?,
    };
    let body = body.map(Cow::into_owned);
    let body = body.unwrap_or_else(|| Refusal::default_body(status));
    let content_type = content_type.map_or(default.content_type, Cow::into_owned);
    let refusal = Refusal { status, body, content_type, headers };
    refusal.check()?;
    Ok(Some(refusal))
}

/// What a list does, as in a `LIST` command: what differs from the defaults.
///
/// ```
/// use edgefold::{ListAction, ListActionText};
///
/// assert_eq!(ListActionText(&ListAction::default()).to_string(), "action=deny");
/// let trial = ListAction::Deny { share: "25%".parse()?, refusal: None };
/// assert_eq!(ListActionText(&trial).to_string(), "action=deny share=25%");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ListActionText<'a>(pub &'a ListAction);

impl fmt::Display for ListActionText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "action={}", self.0.name())?;
        let ListAction::Deny { share, refusal } = self.0 else { return Ok(()) };
        if *share != Share::ALL {
            write!(f, " share={share}")?;
        }
        let Some(Refusal { status, body, content_type, headers }) = refusal else { return Ok(()) };
        write!(f, " status={status}")?;
        // The default body ends with a line feed, which no command can contain.
        if *body != Refusal::default_body(*status) {
            write!(f, " body={}", Quoted(body))?;
        }
        if *content_type != Refusal::default().content_type {
            write!(f, " content_type={}", Quoted(content_type))?;
        }
        headers.iter().try_for_each(|(name, value)| write!(f, " header={}", Quoted(&format!("{name}: {value}"))))
    }
}
