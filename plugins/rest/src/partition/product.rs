//! Several routers together: each partition of one with each of the others, or one after the other.

use futures_util::future::LocalBoxFuture;

use crate::{
    error::{RestError, Result},
    http::RequestParts,
    interpolation::Scope,
    limits::MAX_PRODUCT,
    partition::{Router, Slice},
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

/// `UnionPartitionRouter`: the partitions of one after those of the other.
pub struct Union {
    routers: Vec<Box<dyn Router>>,
    at: usize,
}

impl Union {
    pub fn new(routers: Vec<Box<dyn Router>>) -> Self {
        Self { routers, at: 0 }
    }

    async fn following(&mut self) -> Result<Option<Slice>> {
        while let Some(router) = self.routers.get_mut(self.at) {
            if let Some(slice) = router.next().await? {
                return Ok(Some(slice));
            }
            self.at += 1;
        }
        Ok(None)
    }
}

impl Router for Union {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Slice>>> {
        Box::pin(self.following())
    }

    fn parts(&self, slice: &Slice, scope: &Scope) -> Result<RequestParts> {
        together(&self.routers, slice, scope)
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
