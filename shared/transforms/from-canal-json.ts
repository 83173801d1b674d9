import { fromCanalJson } from '../converters/canal-json.ts';

export default fromCanalJson;
