//! Several routers together: each partition of one with each of the others, or one after the other.

use std::collections::HashSet;

use futures_util::future::LocalBoxFuture;

use crate::{
    error::{RestError, Result},
    http::RequestParts,
    interpolation::Scope,
    limits::MAX_PRODUCT,
    partition::{Router, Slice},
    value::Value,
};

/// `CartesianProductStreamSlicer`: the last router moves fastest.
pub struct Product {
    routers: Vec<Box<dyn Router>>,
    /// All partitions of each, once they are known.
    known: Option<Vec<Vec<Slice>>>,
    at: usize,
}

impl Product {
    pub fn new(routers: Vec<Box<dyn Router>>) -> Self {
        Self { routers, known: None, at: 0 }
    }

    async fn following(&mut self) -> Result<Option<Slice>> {
        if self.known.is_none() {
            let mut known = Vec::with_capacity(self.routers.len());
            for router in &mut self.routers {
                let mut slices = Vec::new();
                while let Some(slice) = router.next().await? {
                    slices.push(slice);
                    if slices.len() > MAX_PRODUCT {
                        return Err(RestError::config(format!(
                            "a partition router of several has more than {MAX_PRODUCT} partitions"
                        )));
                    }
                }
                known.push(slices);
            }
            self.known = Some(known);
        }
        let known = self.known.as_ref().expect("filled above");
        let Some(total) = known.iter().try_fold(1_usize, |total, slices| total.checked_mul(slices.len())) else {
            return Err(RestError::config("the partition routers have too many partitions together"));
        };
        if self.at >= total {
            return Ok(None);
        }
        let mut left = self.at;
        self.at += 1;
        let mut chosen = Vec::with_capacity(known.len());
        for slices in known.iter().rev() {
            chosen.push(&slices[left % slices.len()]);
            left /= slices.len();
        }
        let mut all = Slice::default();
        // Of the same key the first router's stays.
        for slice in chosen {
            all.partition.extend(slice.partition.clone());
            all.extra_fields.extend(slice.extra_fields.clone());
        }
        Ok(Some(all))
    }
}

impl Router for Product {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Slice>>> {
        Box::pin(self.following())
    }

    fn parts(&self, slice: &Slice, scope: &Scope) -> Result<RequestParts> {
        together(&self.routers, slice, scope)
    }
}

/// `UnionPartitionRouter`: the partitions of one after those of the other, each value of the field once. What else stands
/// in a partition becomes an extra field.
pub struct Union {
    routers: Vec<Box<dyn Router>>,
    at: usize,
    field: String,
    seen: HashSet<String>,
    path: String,
}

impl Union {
    pub fn new(routers: Vec<Box<dyn Router>>, field: String, path: &str) -> Self {
        Self { routers, at: 0, field, seen: HashSet::new(), path: path.to_owned() }
    }

    async fn following(&mut self) -> Result<Option<Slice>> {
        while let Some(router) = self.routers.get_mut(self.at) {
            let Some(mut slice) = router.next().await? else {
                self.at += 1;
                continue;
            };
            let Some(value) = slice.partition.shift_remove(&self.field) else {
                let message = format!("a router of the union gives a partition without `{}`", self.field);
                return Err(RestError::config(message).at(&self.path));
            };
            if !self.seen.insert(value.to_json()) {
                continue;
            }
            let rest = std::mem::replace(&mut slice.partition, super::single(&self.field, value));
            slice.extra_fields.extend(rest);
            return Ok(Some(slice));
        }
        Ok(None)
    }
}

impl Router for Union {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Slice>>> {
        Box::pin(self.following())
    }

    fn state(&self) -> Value {
        let states = self.routers.iter().map(|router| router.state());
        Value::map(states.filter_map(|state| state.as_map().cloned()).flatten().collect())
    }
}

/// What several routers add; of the same name the first one's stays.
fn together(routers: &[Box<dyn Router>], slice: &Slice, scope: &Scope) -> Result<RequestParts> {
    let mut all = RequestParts::default();
    for router in routers.iter().rev() {
        let parts = router.parts(slice, scope)?;
        all.params.extend(parts.params);
        all.headers.extend(parts.headers);
        for (body, more) in [(&mut all.body_data, parts.body_data), (&mut all.body_json, parts.body_json)] {
            if let Some(more) = more.as_map() {
                body.map_mut().extend(more.clone());
            }
        }
    }
    Ok(all)
}
