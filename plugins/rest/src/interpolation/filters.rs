//! Which filters there are, and which module does each.

use super::{
    attributes, codec_filters,
    fault::{Fault, Outcome},
    machine::{Arguments, Machine},
    number_filters,
    object::Object,
    pattern, sequence_filters, show, text_filters,
};

/// Whether a template may name it. The rest of Jinja's own is left out: it wraps text, makes HTML or is left to chance.
pub fn is_known(name: &str) -> bool {
    text_filters::NAMES.contains(&name)
        || sequence_filters::NAMES.contains(&name)
        || number_filters::NAMES.contains(&name)
        || codec_filters::NAMES.contains(&name)
        || matches!(name, "default" | "d" | "attr" | "pprint" | "safe" | "regex_search" | "regex_replace")
}

/// # Errors
/// What Python would raise, and limits.
pub fn apply(machine: &mut Machine<'_>, name: &str, value: Object, args: Arguments) -> Outcome<Object> {
    machine.spend(1 + value.len().unwrap_or(0) / 16)?;
    match name {
        "default" | "d" => {
            let mut bound = args.bind(name, &["default_value", "boolean"])?;
            let boolean = bound.pop().flatten().is_some_and(|boolean| boolean.truthy());
            let missing = value.is_undefined() || (boolean && !value.truthy());
            let default = bound.pop().flatten().unwrap_or_else(|| Object::str(""));
            Ok(if missing { default } else { value })
        }
        "attr" => {
            let [member] = args.exactly(name, ["name"])?;
            attributes::attribute(&value, &show::text(&member).into())
        }
        "pprint" => Ok(Object::str(show::repr(&value))),
        "safe" => Ok(Object::str(text_filters::soft_text(&value))),
        "regex_search" => {
            let [regex] = args.exactly(name, ["regex"])?;
            pattern::search(&value, &regex)
        }
        "regex_replace" => {
            let [regex, replacement] = args.exactly(name, ["regex", "replacement"])?;
            pattern::replace(&value, &regex, &replacement)
        }
        _ if text_filters::NAMES.contains(&name) => text_filters::apply(name, &value, args),
        _ if number_filters::NAMES.contains(&name) => number_filters::apply(name, &value, args),
        _ if codec_filters::NAMES.contains(&name) => codec_filters::apply(name, &value, args),
        _ if sequence_filters::NAMES.contains(&name) => sequence_filters::apply(machine, name, value, args),
        _ => Err(Fault::other(format!("there is no filter `{name}`"))),
    }
}
