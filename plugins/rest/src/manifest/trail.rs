//! The way from the root of a manifest to where somebody stands in it, written out only when something is wrong there.

/// Steps from the root.
#[derive(Debug, Default)]
pub struct Trail<'a> {
    steps: Vec<Step<'a>>,
}

#[derive(Debug)]
enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

impl<'a> Trail<'a> {
    pub fn enter(&mut self, key: &'a str) {
        self.steps.push(Step::Member(key));
    }

    pub fn enter_item(&mut self, at: usize) {
        self.steps.push(Step::Item(at));
    }

    pub fn leave(&mut self) {
        self.steps.pop();
    }

    /// Goes to where a reference leads; gives the place that [`Trail::back`] returns to.
    pub fn jump(&mut self, reference: &'a str) -> Self {
        let steps = reference.split('/').map(Step::Member).collect();
        std::mem::replace(self, Self { steps })
    }

    pub fn back(&mut self, before: Self) {
        *self = before;
    }

    /// Such as `streams[2].retriever.paginator`.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Item(at) => path.push_str(&format!("[{at}]")),
                Step::Member(key) if path.is_empty() => path.push_str(key),
                Step::Member(key) => path.push_str(&format!(".{key}")),
            }
        }
        path
    }
}
