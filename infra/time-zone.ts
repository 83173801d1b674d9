const dayMs = 86_400_000;

/** The instant at which clocks of the zone show this time, given as if it were UTC: the first of two, undefined where there is none. */
export const instantOf = (wallMs: number, timeZone: string): number | undefined => {
  const around = [wallMs - dayMs, wallMs + dayMs].map((ms) => wallOf(ms, timeZone) - ms);
  const instants = around.map((offsetMs) => wallMs - offsetMs).filter((ms) => wallOf(ms, timeZone) === wallMs);
  return instants.length === 0 ? undefined : Math.min(...instants);
};

const formats = new Map<string, Intl.DateTimeFormat>();

/** What clocks of the zone show, as if it were UTC. */
export const wallOf = (ms: number, timeZone: string): number => {
  if (timeZone === 'UTC') return ms;
  let format = formats.get(timeZone);
  if (format === undefined) {
    const numeric = 'numeric' as const;
    const parts = { year: numeric, month: numeric, day: numeric, hour: numeric, minute: numeric, second: numeric };
    format = new Intl.DateTimeFormat('en-US', { timeZone, hourCycle: 'h23', ...parts });
    formats.set(timeZone, format);
  }
  const at = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
  const wall = Date.UTC(at.year!, at.month! - 1, at.day!, at.hour!, at.minute!, at.second!);
  return wall + (((ms % 1000) + 1000) % 1000);
};

export const isTimeZone = (timeZone: string): boolean => {
  try {
    new Intl.DateTimeFormat('en-US', { timeZone });
    return true;
  } catch {
    return false;
  }
};
