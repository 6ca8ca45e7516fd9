//! What a manifest changes in records, one transformation after the other.
//!
//! Owns the order and what templates see. Must never keep anything from one record to the next.

mod append;
mod fields;
mod flatten;
mod keys;

pub use self::append::Appendix;
use self::{
    fields::{AddFields, RemoveFields},
    flatten::DpathFlatten,
    keys::Replace,
};
use crate::{
    error::{RestError, Result},
    interpolation::Scope,
    node::Node,
    partition::Slice,
    stream::Env,
    value::Value,
};

#[derive(Debug, Clone)]
pub struct Transformation {
    work: Work,
    at: String,
}

#[derive(Debug, Clone)]
enum Work {
    Add(AddFields),
    Remove(RemoveFields),
    ToLower,
    ToSnakeCase,
    Replace(Replace),
    Flatten { lists: bool },
    DpathFlatten(DpathFlatten),
}

impl Transformation {
    /// # Errors
    /// Kind config: a transformation that is not known, or one that is incomplete.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let work = match node.kind() {
            "AddFields" => Work::Add(AddFields::build(node)?),
            "RemoveFields" => Work::Remove(RemoveFields::build(node)?),
            "KeysToLower" => Work::ToLower,
            "KeysToSnakeCase" => Work::ToSnakeCase,
            "KeysReplace" => Work::Replace(Replace::build(node)?),
            "FlattenFields" => Work::Flatten { lists: node.flag("flatten_lists", true)? },
            "DpathFlattenFields" => Work::DpathFlatten(DpathFlatten::build(node, env)?),
            _ => return Err(node.unknown()),
        };
        Ok(Self { work, at: node.path.clone() })
    }

    /// Changes one record, which has to be an object.
    ///
    /// # Errors
    /// Kind config: a template that fails, or a field that cannot be written.
    pub fn apply(&self, record: &mut Value, scope: &mut Scope) -> Result<()> {
        let result = match &self.work {
            Work::Add(add) => add.apply(record, scope),
            Work::Remove(remove) => remove.apply(record, scope),
            Work::ToLower => {
                keys::to_lower(record.map_mut());
                Ok(())
            }
            Work::ToSnakeCase => {
                *record = keys::renamed(record, &keys::snake_case);
                Ok(())
            }
            Work::Replace(replace) => replace.apply(record, scope),
            Work::Flatten { lists } => {
                *record = flatten::whole(record, *lists);
                Ok(())
            }
            Work::DpathFlatten(flatten) => flatten.apply(record).map_err(RestError::config),
        };
        result.map_err(|error| error.at(&self.at))
    }
}

/// The variables of transformations, but for the record.
pub fn scope(env: &Env, slice: Option<&Slice>) -> Scope {
    env.scope().with("stream_slice", slice.map(Slice::value).unwrap_or_default())
}

/// The templates of the values see the record as it is at this moment.
fn with_record<T>(record: &Value, scope: &mut Scope, see: impl FnOnce(&Scope) -> T) -> T {
    scope.set("record", record.clone());
    let seen = see(scope);
    // Else the record would be copied when it is changed.
    scope.set("record", Value::Null);
    seen
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        extract::stage::{env, json},
        value::Map,
    };

    fn changed(transformation: &str, record: &str) -> Result<String> {
        let (node, mut record) = (json(transformation), json(record));
        let slice = Slice { partition: Map::from_iter([("id".into(), Value::Int(7))]), ..Slice::default() };
        let mut scope = scope(&env(), Some(&slice));
        Transformation::build(&Node::root(&node), &env())?.apply(&mut record, &mut scope)?;
        Ok(record.to_json())
    }

    #[test]
    fn fields_are_added_one_after_the_other() {
        let text = r#"{"type":"AddFields","fields":[
            {"path":["x","y"],"value":"{{ record.a }}"},
            {"path":["z"],"value":"{{ record.x.y }}-{{ stream_partition.id }}"},
            {"path":["a"],"value":"static"}]}"#;
        assert_eq!(changed(text, r#"{"a":1}"#).unwrap(), r#"{"a":"static","x":{"y":1},"z":"1-7"}"#);
        let text = r#"{"type":"AddFields","condition":"{{ value == 1 }}","fields":[
            {"path":["x"],"value":"{{ record.a }}"},{"path":["y"],"value":"{{ record.b }}"}]}"#;
        assert_eq!(changed(text, r#"{"a":1,"b":2}"#).unwrap(), r#"{"a":1,"b":2,"x":1}"#);
    }

    #[test]
    fn a_field_keeps_its_text_where_it_has_to() {
        let added = |kind: &str, value: &str| {
            let text = format!(
                r#"{{"type":"AddFields","fields":[{{"path":["x"],"value":"{value}","value_type":"{kind}"}}]}}"#
            );
            changed(&text, r#"{"a":"1.50"}"#).unwrap()
        };
        assert_eq!(added("string", "{{ record.a }}"), r#"{"a":"1.50","x":"1.50"}"#);
        assert_eq!(added("number", "{{ record.a }}"), r#"{"a":"1.50","x":1.5}"#);
        assert_eq!(added("integer", "{{ record.a }}"), r#"{"a":"1.50","x":"1.50"}"#);
        assert_eq!(added("boolean", "True"), r#"{"a":"1.50","x":true}"#);
    }

    #[test]
    fn a_field_that_cannot_be_written_is_an_error() {
        let text = r#"{"type":"AddFields","fields":[{"path":["a","b"],"value":"x"}]}"#;
        let error = changed(text, r#"{"a":"text"}"#).unwrap_err();
        assert_eq!(error.to_string(), "fields[0]: `a.b` cannot be written: `a` is neither an object nor an array");
    }

    #[test]
    fn fields_are_removed_along_patterns() {
        let text = r#"{"type":"RemoveFields","field_pointers":[["a"],["l","*","x"],["none"]]}"#;
        assert_eq!(changed(text, r#"{"a":1,"b":2,"l":[{"x":1,"y":2}]}"#).unwrap(), r#"{"b":2,"l":[{"y":2}]}"#);
    }

    #[test]
    fn with_a_condition_all_plain_values_are_removed_for_which_it_holds() {
        let text = r#"{"type":"RemoveFields","field_pointers":[["a"]],"condition":"{{ property == 1 }}"}"#;
        assert_eq!(changed(text, r#"{"a":2,"b":1,"c":{"d":1,"e":[1,2]}}"#).unwrap(), r#"{"a":2,"c":{"e":[null,2]}}"#);
    }

    #[test]
    fn names_are_changed() {
        assert_eq!(changed(r#"{"type":"KeysToLower"}"#, r#"{"A":{"B":1},"Ä":2}"#).unwrap(), r#"{"a":{"B":1},"ä":2}"#);
        let text = r#"{"type":"KeysReplace","old":" ","new":"_"}"#;
        assert_eq!(
            changed(text, r#"{"a b":{"c d":1},"e":[{"f g":1}]}"#).unwrap(),
            r#"{"a_b":{"c_d":1},"e":[{"f g":1}]}"#
        );
    }

    #[test]
    fn names_in_snake_case_are_those_of_the_reference() {
        for (from, to) in [
            ("createdAt", "created_at"),
            ("HTTPCode2", "httpcode_2"),
            ("SymbolsHere!@#$%^&", "symbols_here_"),
            ("_y", "_y"),
            ("2ndName", "_2_nd_name"),
            ("a.b", "a_b"),
            ("Ünï Code", "uni_code"),
            ("", ""),
            ("*", ""),
        ] {
            let text = format!(r#"{{"{from}":1}}"#);
            assert_eq!(changed(r#"{"type":"KeysToSnakeCase"}"#, &text).unwrap(), format!(r#"{{"{to}":1}}"#));
        }
    }

    #[test]
    fn whole_records_are_flattened_from_their_end() {
        let text = r#"{"a":{"x":1,"l":[{"y":2}]},"b":[],"x":3}"#;
        assert_eq!(changed(r#"{"type":"FlattenFields"}"#, text).unwrap(), r#"{"x":3,"l.0.y":2,"a.x":1}"#);
        let text = r#"{"a":{"x":1},"l":[1]}"#;
        assert_eq!(changed(r#"{"type":"FlattenFields","flatten_lists":false}"#, text).unwrap(), r#"{"l":[1],"x":1}"#);
    }

    #[test]
    fn one_object_is_moved_up_unless_a_name_is_taken() {
        let moved = |rest: &str, record: &str| {
            let text = format!(r#"{{"type":"DpathFlattenFields","field_path":["d","o"]{rest}}}"#);
            changed(&text, record).unwrap()
        };
        let record = r#"{"a":1,"d":{"o":{"x":2},"n":0}}"#;
        assert_eq!(moved("", record), r#"{"a":1,"d":{"o":{"x":2},"n":0},"x":2}"#);
        assert_eq!(moved(r#","delete_origin_value":true"#, record), r#"{"a":1,"d":{"n":0},"x":2}"#);
        let keys =
            r#","replace_record":true,"key_transformation":{"type":"KeyTransformation","prefix":"p_","suffix":"_s"}"#;
        assert_eq!(moved(keys, record), r#"{"p_x_s":2}"#);
        assert_eq!(moved("", r#"{"x":1,"d":{"o":{"x":2}}}"#), r#"{"x":1,"d":{"o":{"x":2}}}"#);
        assert_eq!(moved("", r#"{"d":1}"#), r#"{"d":1}"#);
    }
}
