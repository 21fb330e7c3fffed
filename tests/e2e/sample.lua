--- Small helpers for tables and strings.
local M = {}

--- Sum of a list of numbers.
function M.sum(list)
  local total = 0
  for _, value in ipairs(list) do
    total = total + value
  end
  return total
end

--- The keys of a table, sorted.
function M.keys(map)
  local keys = {}
  for key in pairs(map) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

return M
