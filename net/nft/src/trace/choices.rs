//! Every outcome of random choices. A walk asks for each choice when it comes to it; it is walked again and again until
//! all have been taken.

/// The choices of one walk.
#[derive(Debug, Default)]
pub struct Choices {
    planned: Vec<u32>,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    taken: u32,
    of: u32,
}

impl Choices {
    /// One of so many, from 0; of none it is 0 too.
    pub fn draw(&mut self, of: u32) -> u32 {
        let taken = self.planned.get(self.made.len()).copied().unwrap_or(0);
        self.made.push(Made { taken, of });
        taken
    }

    /// Those of the next walk: tried like the digits of a counter, of which a walk may come to more or fewer.
    fn next(self) -> Option<Self> {
        let mut planned: Vec<u32> = self.made.iter().map(|made| made.taken).collect();
        loop {
            let last = planned.pop()?;
            if last + 1 < self.made[planned.len()].of {
                planned.push(last + 1);
                return Some(Self { planned, made: Vec::new() });
            }
        }
    }
}

/// Walks every way there is.
pub fn every_way(mut walk: impl FnMut(&mut Choices)) {
    let mut choices = Choices::default();
    loop {
        walk(&mut choices);
        match choices.next() {
            Some(next) => choices = next,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_walked_once_however_many_choices_it_meets() {
        let mut ways = Vec::new();
        every_way(|choices| {
            let first = choices.draw(3);
            // Only one of the first leads to a second.
            let second = (first == 1).then(|| choices.draw(2));
            ways.push((first, second));
        });
        assert_eq!(ways, [(0, None), (1, Some(0)), (1, Some(1)), (2, None)]);
        let mut walked = 0;
        every_way(|_| walked += 1);
        assert_eq!(walked, 1, "without a choice there is one way");
    }
}
