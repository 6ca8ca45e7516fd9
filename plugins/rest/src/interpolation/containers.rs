//! Lists and objects of templates: shared with the scope until somebody changes them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use indexmap::IndexMap;

use crate::{
    limits,
    value::{Map, Value},
};

use super::object::{Key, Object};

/// A list; clones are the same list.
#[derive(Debug, Clone)]
pub struct List(Rc<RefCell<Items>>);

#[derive(Debug)]
enum Items {
    /// With the members that were handed out, so that a change of one is seen here.
    Shared(Arc<Vec<Value>>, Vec<(usize, Object)>),
    Own(Vec<Object>),
}

impl List {
    pub fn shared(items: Arc<Vec<Value>>) -> Self {
        Self(Rc::new(RefCell::new(Items::Shared(items, Vec::new()))))
    }

    pub fn own(items: Vec<Object>) -> Self {
        Self(Rc::new(RefCell::new(Items::Own(items))))
    }

    pub fn len(&self) -> usize {
        match &*self.0.borrow() {
            Items::Shared(items, _) => items.len(),
            Items::Own(items) => items.len(),
        }
    }

    pub fn get(&self, at: usize) -> Option<Object> {
        match &mut *self.0.borrow_mut() {
            Items::Shared(items, touched) => {
                if let Some((_, object)) = touched.iter().find(|(known, _)| *known == at) {
                    return Some(object.clone());
                }
                let object = Object::from_value(items.get(at)?);
                if is_container(&object) {
                    touched.push((at, object.clone()));
                }
                Some(object)
            }
            Items::Own(items) => items.get(at).cloned(),
        }
    }

    pub fn to_vec(&self) -> Vec<Object> {
        self.change(|items| items.clone())
    }

    /// As it was handed over, where nobody can have changed it.
    pub fn as_shared(&self) -> Option<Arc<Vec<Value>>> {
        match &*self.0.borrow() {
            Items::Shared(items, touched) if touched.is_empty() => Some(Arc::clone(items)),
            _ => None,
        }
    }

    /// The members themselves; from now on they are this list's own.
    pub fn change<T>(&self, change: impl FnOnce(&mut Vec<Object>) -> T) -> T {
        let mut held = self.0.borrow_mut();
        if let Items::Shared(items, touched) = &*held {
            let mut own: Vec<Object> = items.iter().map(Object::from_value).collect();
            for (at, object) in touched {
                own[*at] = object.clone();
            }
            *held = Items::Own(own);
        }
        match &mut *held {
            Items::Own(items) => change(items),
            Items::Shared(..) => unreachable!("made its own above"),
        }
    }

    pub fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// How an object of the scope is looked at, beyond what any is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    #[default]
    Plain,
    /// A stream's slice: its parts are attributes.
    Slice,
    /// Headers: names are found in any case.
    Headers,
}

/// An object (dict); clones are the same object.
#[derive(Debug, Clone)]
pub struct Dict {
    body: Rc<RefCell<Body>>,
    pub view: View,
}

#[derive(Debug)]
enum Body {
    Shared(Arc<Map>, Vec<(String, Object)>),
    Own(IndexMap<Key, Object>),
}

impl Dict {
    pub fn shared(map: Arc<Map>) -> Self {
        Self { body: Rc::new(RefCell::new(Body::Shared(map, Vec::new()))), view: View::Plain }
    }

    pub fn own(map: IndexMap<Key, Object>) -> Self {
        Self { body: Rc::new(RefCell::new(Body::Own(map))), view: View::Plain }
    }

    #[must_use]
    pub fn seen_as(mut self, view: View) -> Self {
        self.view = view;
        self
    }

    pub fn len(&self) -> usize {
        match &*self.body.borrow() {
            Body::Shared(map, _) => map.len(),
            Body::Own(map) => map.len(),
        }
    }

    pub fn get_text(&self, key: &str) -> Option<Object> {
        let found = self.lookup(key);
        if found.is_some() || self.view != View::Headers {
            return found;
        }
        let known = self.keys().into_iter().find_map(|known| match known {
            Object::Str(known) if known.eq_ignore_ascii_case(key) => Some(known),
            _ => None,
        })?;
        self.lookup(&known)
    }

    fn lookup(&self, key: &str) -> Option<Object> {
        match &mut *self.body.borrow_mut() {
            Body::Shared(map, touched) => {
                if let Some((_, object)) = touched.iter().find(|(known, _)| known == key) {
                    return Some(object.clone());
                }
                let object = Object::from_value(map.get(key)?);
                if is_container(&object) {
                    touched.push((key.to_owned(), object.clone()));
                }
                Some(object)
            }
            Body::Own(map) => map.get(&Key::text(key)).cloned(),
        }
    }

    pub fn get(&self, key: &Key) -> Option<Object> {
        if let Object::Str(text) = key.object() {
            return self.get_text(text);
        }
        match &*self.body.borrow() {
            // The scope's objects have texts for keys.
            Body::Shared(..) => None,
            Body::Own(map) => map.get(key).cloned(),
        }
    }

    pub fn keys(&self) -> Vec<Object> {
        match &*self.body.borrow() {
            Body::Shared(map, _) => map.keys().map(Object::str).collect(),
            Body::Own(map) => map.keys().map(|key| key.object().clone()).collect(),
        }
    }

    pub fn pairs(&self) -> Vec<(Object, Object)> {
        self.change(|map| map.iter().map(|(key, value)| (key.object().clone(), value.clone())).collect())
    }

    pub fn values(&self) -> Vec<Object> {
        self.change(|map| map.values().cloned().collect())
    }

    /// As it was handed over, where nobody can have changed it.
    pub fn as_shared(&self) -> Option<Arc<Map>> {
        match &*self.body.borrow() {
            Body::Shared(map, touched) if touched.is_empty() => Some(Arc::clone(map)),
            _ => None,
        }
    }

    /// The members themselves; from now on they are this object's own.
    pub fn change<T>(&self, change: impl FnOnce(&mut IndexMap<Key, Object>) -> T) -> T {
        let mut held = self.body.borrow_mut();
        if let Body::Shared(map, touched) = &*held {
            let mut own: IndexMap<Key, Object> =
                map.iter().map(|(key, value)| (Key::text(key), Object::from_value(value))).collect();
            for (key, object) in touched {
                own.insert(Key::text(key), object.clone());
            }
            *held = Body::Own(own);
        }
        match &mut *held {
            Body::Own(map) => change(map),
            Body::Shared(..) => unreachable!("made its own above"),
        }
    }

    pub fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.body, &other.body)
    }
}

fn is_container(object: &Object) -> bool {
    matches!(object, Object::List(_) | Object::Dict(_))
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static VISITS: Cell<usize> = const { Cell::new(0) };
}

/// Runs what goes one level down into nested containers; `None` at a depth that only a container in itself reaches.
pub fn deeper<T>(run: impl FnOnce() -> T) -> Option<T> {
    let depth = DEPTH.get();
    if depth >= limits::MAX_VALUE_DEPTH {
        return None;
    }
    DEPTH.set(depth + 1);
    let result = run();
    DEPTH.set(depth);
    Some(result)
}

/// The same for what compares; `None` also after so many visits as only containers that hold each other many times over
/// need.
pub fn deeper_in_both<T>(run: impl FnOnce() -> T) -> Option<T> {
    let visits = if DEPTH.get() == 0 { 0 } else { VISITS.get() };
    VISITS.set(visits + 1);
    if visits >= limits::MAX_VALUE_VISITS { None } else { deeper(run) }
}
