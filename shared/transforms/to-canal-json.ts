import { toCanalJson } from '../converters/canal-json.ts';

export default toCanalJson;
