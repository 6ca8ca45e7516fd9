//! Where a stream begins and ends: moments of the manifest (`MinMaxDatetime`).

use crate::{
    cursor::{Point, clamp::Clamp},
    datetime::{self, DateTime, Duration},
    error::{RestError, Result},
    interpolation::{Scope, Template},
    node::Node,
};

/// The format of moments where neither they nor the cursor name one.
const DEFAULT_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%f%z";

/// A moment by a template, held between two others.
#[derive(Debug, Clone)]
pub struct MomentTemplate {
    datetime: Template,
    format: String,
    min: Option<Template>,
    max: Option<Template>,
}

impl MomentTemplate {
    /// `node` is text or a `MinMaxDatetime`; `format` is the cursor's.
    ///
    /// # Errors
    /// Kind config where it is neither.
    pub fn build(node: &Node<'_>, component: &Node<'_>, format: &str) -> Result<Self> {
        if node.value.as_map().is_none() {
            let format = if format.is_empty() { DEFAULT_FORMAT } else { format }.to_owned();
            return Ok(Self { datetime: Template::new(node, component)?, format, min: None, max: None });
        }
        let own = node.get("datetime_format").map(|own| own.text().map(str::to_owned)).transpose()?;
        let own = own.filter(|own| !own.is_empty());
        let bound = |key: &str| node.get(key).map(|bound| Template::new(&bound, node)).transpose();
        Ok(Self {
            datetime: Template::new(&node.need("datetime")?, node)?,
            format: own.unwrap_or_else(|| if format.is_empty() { DEFAULT_FORMAT } else { format }.to_owned()),
            min: bound("min_datetime")?,
            max: bound("max_datetime")?,
        })
    }

    /// # Errors
    /// Kind config, naming the place, where a template or a moment cannot be read.
    pub fn at(&self, scope: &Scope) -> Result<DateTime> {
        let mut at = self.read(&self.datetime, scope)?.ok_or_else(|| {
            RestError::config("the moment is empty: set what its template takes it from").at(&self.datetime.at)
        })?;
        if let Some(min) = self.min.as_ref().map(|min| self.read(min, scope)).transpose()?.flatten()
            && min.us() > at.us()
        {
            at = min;
        }
        if let Some(max) = self.max.as_ref().map(|max| self.read(max, scope)).transpose()?.flatten()
            && max.us() < at.us()
        {
            at = max;
        }
        Ok(at)
    }

    fn read(&self, template: &Template, scope: &Scope) -> Result<Option<DateTime>> {
        let text = template.text(scope)?;
        if text.is_empty() {
            return Ok(None);
        }
        datetime::parse(&text, &self.format).map(Some).map_err(|error| error.at(&template.at))
    }
}

/// Where the last window ends.
#[derive(Debug, Clone)]
pub enum EndOfRange {
    Never,
    Now { clamp: Clamp, granularity: Option<Duration> },
    Moment { moment: Box<MomentTemplate>, clamp: Clamp, granularity: Option<Duration> },
}

impl EndOfRange {
    /// # Errors
    /// Those of [`MomentTemplate::at`].
    pub fn at(&self, scope: &Scope) -> Result<Point> {
        let (at, clamp, granularity) = match self {
            Self::Never => return Ok(Point::Never),
            Self::Now { clamp, granularity } => (DateTime::from_us(scope.now_us), clamp, granularity),
            Self::Moment { moment, clamp, granularity } => (moment.at(scope)?, clamp, granularity),
        };
        let at = Point::Time(at);
        if *clamp == Clamp::Not {
            return Ok(at);
        }
        let last = clamp.down(&at);
        Ok(granularity.as_ref().and_then(|step| last.minus(step)).unwrap_or(last))
    }
}
