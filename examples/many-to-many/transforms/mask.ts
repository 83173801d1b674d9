import { recordTransform } from 'sluice/connect/transform';

/** Addresses without the name in them: `a***@example.com`. A row that was deleted is left out, because a file holds no deletions. */
export default recordTransform('mask', (record) => {
  if (record.value === null) return null;
  const value = record.value as { email: string };
  return { ...record, value: { ...value, email: value.email.replace(/^(.).*@/, '$1***@') } };
});
