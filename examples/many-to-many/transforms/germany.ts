import { recordTransform } from 'sluice/connect/transform';

/** Orders of Germany. The country of an order never changes, so that what is left out is left out with all its changes. */
export default recordTransform('germany', (record) => {
  // A row that was deleted: where it was none of Germany's, there is nothing to delete.
  if (record.value === null) return record;
  return (record.value as { country: string }).country === 'DE' ? record : null;
});
