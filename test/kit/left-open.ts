/** The kinds of what keeps the process alive beside what did before: that may have gone meanwhile, as it is the test runner's own. */
export const openedSince = (before: readonly string[]): readonly string[] => {
  const now = process.getActiveResourcesInfo();
  for (const one of before) if (now.includes(one)) now.splice(now.indexOf(one), 1);
  return now;
};
