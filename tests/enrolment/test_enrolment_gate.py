from .house import csr


def test_x(each_house):
    house = each_house
    print(house.held("R1"))
    house.renew("R1", csr())
    assert len(house.held("R1")) == 3
