//! Quick look.
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (from, n): (u64, u64) = (a[1].parse().unwrap(), a[2].parse().unwrap());
    if a.get(3).is_some() {
        let s = parapull_sim::generate(from);
        println!("{}", serde_json::to_string(&s).unwrap());
        let mut o = |at: u64, what: &dyn std::fmt::Debug| println!("{:>14} {what:?}", at);
        let r = parapull_sim::Run::observed(&s, &mut o);
        println!("{:?}", r.err());
        return;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let mut kinds = std::collections::BTreeMap::<String, (u64, u64)>::new();
    let mut inputs = 0;
    parapull_sim::swarm(from..from + n, |s, r| {
        match r {
            Ok(run) => inputs += run.inputs(),
            Err(f) => {
                let m: String = f
                    .message()
                    .chars()
                    .filter(|c| !c.is_ascii_digit())
                    .take(110)
                    .collect();
                let e = kinds.entry(m).or_default();
                if e.0 == 0 {
                    e.1 = s.seed;
                    println!("seed {} {}: {:.400}", s.seed, f.exit_code(), f.message());
                }
                e.0 += 1;
            }
        }
        true
    });
    println!("inputs {inputs}");
    for (m, (n, s)) in kinds {
        println!("{n:6} (e.g. {s}) {m}");
    }
}
